package flowtext

import (
	"fmt"
	"strings"

	"github.com/digitalocean/go-openvswitch/ovs"

	"github.com/platelet-sdn/platelet/controller/openflow"
)

func actions(list []openflow.Action) ([]ovs.Action, bool) {
	if len(list) == 0 {
		return []ovs.Action{ovs.Drop()}, true
	}
	out := make([]ovs.Action, len(list))
	for i, a := range list {
		if out[i] = action(a); out[i] == nil {
			return nil, false
		}
	}
	return out, true
}

// action translates one action; nil cannot be expressed.
func action(a openflow.Action) ovs.Action {
	switch a := a.(type) {
	case openflow.Output:
		return output(a.Port)
	case openflow.OutputReg:
		return ovs.OutputField(a.Src.String())
	case openflow.Resubmit:
		// Table 0 is written as no table, which means the present one.
		if a.Table == 0 || a.Table == openflow.TableAll || a.InPort >= 0xff00 || a.CT {
			return nil
		}
		return ovs.Resubmit(int(a.InPort), int(a.Table))
	case openflow.Load:
		return ovs.Load(fmt.Sprintf("0x%x", a.Value), a.Dst.String())
	case openflow.Move:
		return ovs.Move(a.Src.String(), a.Dst.String())
	case openflow.SetField:
		value, field, ok := strings.Cut(strings.TrimPrefix(a.String(), "set_field:"), "->")
		if !ok {
			return nil
		}
		return ovs.SetField(value, field)
	case openflow.Conntrack:
		args, ok := strings.CutPrefix(a.String(), "ct(")
		if !ok || args == ")" {
			return nil
		}
		return ovs.ConnectionTracking(strings.TrimSuffix(args, ")"))
	case openflow.Conjunction:
		return ovs.Conjunction(int(a.ID), int(a.Clause), int(a.Of))
	case openflow.DecTTL:
		return ovs.DecTTL()
	case openflow.PopVLAN:
		return ovs.StripVLAN()
	}
	return nil
}

func output(port uint32) ovs.Action {
	switch port {
	case openflow.PortNormal:
		return ovs.Normal()
	case openflow.PortFlood:
		return ovs.Flood()
	case openflow.PortAll:
		return ovs.All()
	case openflow.PortInPort:
		return ovs.InPort()
	case openflow.PortLocal:
		return ovs.Local()
	}
	if port >= 0xffffff00 { // reserved, as the controller's
		return nil
	}
	return ovs.Output(int(port))
}
