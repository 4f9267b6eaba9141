package ovsdb

import (
	"maps"
	"reflect"
	"slices"

	"github.com/ovn-kubernetes/libovsdb/cache"
	"github.com/ovn-kubernetes/libovsdb/client"
	"github.com/ovn-kubernetes/libovsdb/model"
)

// The row types below name only the columns that Platelet reads or writes.
// libovsdb refuses to connect when a column is missing on the server, so each
// of them exists in every schema since Open vSwitch 2.5; a newer column must
// not be added without a fallback for older servers. Statistics are left out
// on purpose: monitoring them would wake us every few seconds for nothing.

// OpenvSwitch is the single row of table Open_vSwitch.
type OpenvSwitch struct {
	UUID        string            `ovsdb:"_uuid"`
	Bridges     []string          `ovsdb:"bridges"`
	NextCfg     int               `ovsdb:"next_cfg"`
	CurCfg      int               `ovsdb:"cur_cfg"`
	ExternalIDs map[string]string `ovsdb:"external_ids"`
	OVSVersion  *string           `ovsdb:"ovs_version"`
}

// Bridge is a row of table Bridge.
type Bridge struct {
	UUID         string            `ovsdb:"_uuid"`
	Name         string            `ovsdb:"name"`
	DatapathID   *string           `ovsdb:"datapath_id"`
	DatapathType string            `ovsdb:"datapath_type"`
	Ports        []string          `ovsdb:"ports"`
	Controller   []string          `ovsdb:"controller"`
	SFlow        *string           `ovsdb:"sflow"`
	IPFIX        *string           `ovsdb:"ipfix"`
	NetFlow      *string           `ovsdb:"netflow"`
	ExternalIDs  map[string]string `ovsdb:"external_ids"`
}

// Port is a row of table Port; a bond has several interfaces.
type Port struct {
	UUID       string   `ovsdb:"_uuid"`
	Name       string   `ovsdb:"name"`
	Interfaces []string `ovsdb:"interfaces"`
	VLANMode   *string  `ovsdb:"vlan_mode"`
	Trunks     []int    `ovsdb:"trunks"`
}

// Interface is a row of table Interface.
type Interface struct {
	UUID        string            `ovsdb:"_uuid"`
	Name        string            `ovsdb:"name"`
	Type        string            `ovsdb:"type"`
	OFPort      *int              `ovsdb:"ofport"`
	IfIndex     *int              `ovsdb:"ifindex"`
	MACInUse    *string           `ovsdb:"mac_in_use"`
	LinkState   *string           `ovsdb:"link_state"`
	Options     map[string]string `ovsdb:"options"`
	ExternalIDs map[string]string `ovsdb:"external_ids"`
}

// Controller is a row of table Controller.
type Controller struct {
	UUID   string `ovsdb:"_uuid"`
	Target string `ovsdb:"target"`
}

// SFlow is a row of table sFlow.
type SFlow struct {
	UUID        string            `ovsdb:"_uuid"`
	Targets     []string          `ovsdb:"targets"`
	Agent       *string           `ovsdb:"agent"`
	Header      *int              `ovsdb:"header"`
	Polling     *int              `ovsdb:"polling"`
	Sampling    *int              `ovsdb:"sampling"`
	ExternalIDs map[string]string `ovsdb:"external_ids"`
}

// IPFIX is a row of table IPFIX.
type IPFIX struct {
	UUID               string            `ovsdb:"_uuid"`
	Targets            []string          `ovsdb:"targets"`
	Sampling           *int              `ovsdb:"sampling"`
	ObsDomainID        *int              `ovsdb:"obs_domain_id"`
	CacheActiveTimeout *int              `ovsdb:"cache_active_timeout"`
	CacheMaxFlows      *int              `ovsdb:"cache_max_flows"`
	ExternalIDs        map[string]string `ovsdb:"external_ids"`
}

// FlowSampleCollectorSet is a row of table Flow_Sample_Collector_Set.
type FlowSampleCollectorSet struct {
	UUID        string            `ovsdb:"_uuid"`
	ID          int               `ovsdb:"id"`
	Bridge      string            `ovsdb:"bridge"`
	IPFIX       *string           `ovsdb:"ipfix"`
	ExternalIDs map[string]string `ovsdb:"external_ids"`
}

// NetFlow is a row of table NetFlow.
type NetFlow struct {
	UUID          string            `ovsdb:"_uuid"`
	Targets       []string          `ovsdb:"targets"`
	ActiveTimeout int               `ovsdb:"active_timeout"`
	ExternalIDs   map[string]string `ovsdb:"external_ids"`
}

// models maps table names to row types.
func models() map[string]model.Model {
	return map[string]model.Model{
		"Open_vSwitch":              &OpenvSwitch{},
		"Bridge":                    &Bridge{},
		"Port":                      &Port{},
		"Interface":                 &Interface{},
		"Controller":                &Controller{},
		"sFlow":                     &SFlow{},
		"IPFIX":                     &IPFIX{},
		"Flow_Sample_Collector_Set": &FlowSampleCollectorSet{},
		"NetFlow":                   &NetFlow{},
	}
}

// monitored lists the tables and exactly the columns of their row types.
// Without columns libovsdb asks for all of the table, statistics included.
func monitored() []client.TableMonitor {
	var tables []client.TableMonitor
	for table, row := range models() {
		t := reflect.TypeOf(row).Elem()
		var columns []string
		for i := range t.NumField() {
			if c := t.Field(i).Tag.Get("ovsdb"); c != "_uuid" {
				columns = append(columns, c)
			}
		}
		tables = append(tables, client.TableMonitor{Table: table, Fields: columns})
	}
	return tables
}

// Tables is what the database held when it was read, by row UUID. It shares
// memory with the client's cache and is for reading only.
type Tables struct {
	// Root is nil while the database has not been initialised.
	Root *OpenvSwitch
	// Bridges that exist. A collector set keeps the row of a deleted bridge
	// in the database, and then refers to none of these.
	Bridges       map[string]*Bridge
	Ports         map[string]*Port
	Interfaces    map[string]*Interface
	Controllers   map[string]*Controller
	SFlows        map[string]*SFlow
	IPFIXes       map[string]*IPFIX
	CollectorSets map[string]*FlowSampleCollectorSet
	NetFlows      map[string]*NetFlow
}

// Bridge finds a bridge by name.
func (t *Tables) Bridge(name string) (*Bridge, bool) {
	for _, b := range t.Bridges {
		if b.Name == name {
			return b, true
		}
	}
	return nil, false
}

// read collects the tables from the cache.
func read(c *cache.TableCache) *Tables {
	t := &Tables{
		Bridges:       rows[Bridge](c, "Bridge"),
		Ports:         rows[Port](c, "Port"),
		Interfaces:    rows[Interface](c, "Interface"),
		Controllers:   rows[Controller](c, "Controller"),
		SFlows:        rows[SFlow](c, "sFlow"),
		IPFIXes:       rows[IPFIX](c, "IPFIX"),
		CollectorSets: rows[FlowSampleCollectorSet](c, "Flow_Sample_Collector_Set"),
		NetFlows:      rows[NetFlow](c, "NetFlow"),
	}
	for _, root := range rows[OpenvSwitch](c, "Open_vSwitch") {
		t.Root = root
	}
	maps.DeleteFunc(t.Bridges, func(id string, _ *Bridge) bool {
		return t.Root == nil || !slices.Contains(t.Root.Bridges, id)
	})
	return t
}

func rows[T any](c *cache.TableCache, table string) map[string]*T {
	shared := c.Table(table).RowsShallow()
	out := make(map[string]*T, len(shared))
	for uuid, row := range shared {
		if r, ok := row.(*T); ok {
			out[uuid] = r
		}
	}
	return out
}
