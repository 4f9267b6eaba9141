package telemetry

import (
	"fmt"

	"github.com/ovn-kubernetes/libovsdb/client"
	"github.com/ovn-kubernetes/libovsdb/model"
	libovsdb "github.com/ovn-kubernetes/libovsdb/ovsdb"

	"github.com/platelet-sdn/platelet/controller/ovsdb"
)

// change collects the operations of one transaction. Each step that relies on
// something read before adds a wait for it, so that the transaction fails
// instead of overwriting what somebody else did meanwhile.
type change struct {
	db  client.Client
	ops []libovsdb.Operation
	err error
}

func (c *change) add(ops []libovsdb.Operation, err error) {
	if err != nil && c.err == nil {
		c.err = fmt.Errorf("build the transaction: %w", err)
	}
	c.ops = append(c.ops, ops...)
}

// insert creates a row; its UUID field is a name for use in this transaction.
func (c *change) insert(row model.Model) { c.add(c.db.Create(row)) }

// unchanged waits for columns of a row to be as they were read.
func (c *change) unchanged(row model.Model, columns ...any) {
	now := 0
	c.add(c.db.Where(row).Wait(libovsdb.WaitConditionEqual, &now, row, columns...))
}

// setSFlow points a bridge to another sFlow row, or to none.
func (c *change) setSFlow(b *ovsdb.Bridge, id *string) {
	c.unchanged(b, &b.SFlow)
	next := &ovsdb.Bridge{UUID: b.UUID, SFlow: id}
	c.add(c.db.Where(next).Update(next, &next.SFlow))
}

// removeSet deletes a collector set of ours; its IPFIX row goes with it.
func (c *change) removeSet(set *ovsdb.FlowSampleCollectorSet) {
	c.unchanged(set, &set.ExternalIDs)
	c.add(c.db.Where(set).Delete())
}

// addSet creates a collector set with its IPFIX row.
func (c *change) addSet(bridge string, id int, s Settings) {
	c.add(c.db.Create(&ovsdb.IPFIX{
		UUID:        "pl_ipfix",
		Targets:     []string{s.IPFIXTarget},
		ObsDomainID: pointer(int(s.Domain)),
		ExternalIDs: map[string]string{ownerKey: owner},
	}))
	c.add(c.db.Create(&ovsdb.FlowSampleCollectorSet{
		UUID:   "pl_set",
		ID:     id,
		Bridge: bridge,
		IPFIX:  pointer("pl_ipfix"),
		ExternalIDs: map[string]string{
			ownerKey:     owner,
			requestedKey: fmt.Sprint(s.setID()),
		},
	}))
}

// byUUID is the condition that selects one row.
func byUUID(id string) []libovsdb.Condition {
	return []libovsdb.Condition{libovsdb.NewCondition("_uuid", libovsdb.ConditionEqual, libovsdb.UUID{GoUUID: id})}
}

func pointer[T any](v T) *T { return &v }
