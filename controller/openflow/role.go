package openflow

import (
	"context"
	"encoding/binary"
	"fmt"
)

// Role is a controller's role (section 7.3.8).
type Role uint32

// Controller roles; RoleNoChange asks for the present one. A connection starts
// as equal. A switch has one master at most: when another connection becomes
// master, the former one becomes slave. Equals stay equal, and may change
// everything.
const (
	RoleNoChange Role = iota
	RoleEqual
	RoleMaster
	RoleSlave
)

func (r Role) String() string {
	switch r {
	case RoleNoChange:
		return "no change"
	case RoleEqual:
		return "equal"
	case RoleMaster:
		return "master"
	case RoleSlave:
		return "slave"
	}
	return fmt.Sprintf("role %d", uint32(r))
}

// Errors of roles, for errors.Is.
var (
	// ErrStale says that the switch has seen a newer generation: somebody
	// else leads now (OFPRRFC_STALE).
	ErrStale error = &Error{Type: ErrorTypeRoleFailed, Code: 0}
	// ErrSlave says that a slave asked for a change of the switch
	// (OFPBRC_IS_SLAVE).
	ErrSlave error = &Error{Type: ErrorTypeBadRequest, Code: 10}
)

// Lead makes this connection the master under a generation, a number that
// grows each time the lead is given to somebody (a lease's revision). A
// connection that was master becomes slave and is told so, see RoleStatus.
// Lead fails with ErrStale when the switch has seen a newer generation from
// anybody; the connection then keeps the role that it had.
//
// Open vSwitch remembers the generation of a bridge until ovs-vswitchd ends,
// and compares in modular arithmetic: a generation that is ahead by less than
// 1<<63 is newer (ofproto/connmgr.c).
func (c *Conn) Lead(ctx context.Context, generation uint64) error {
	return c.become(ctx, RoleMaster, generation)
}

// Follow makes this connection a slave under a generation, which must not be
// older than the newest that the switch has seen (else ErrStale): the switch
// then refuses its changes with ErrSlave. Of the asynchronous messages a slave
// gets those that SetAsync asks for.
func (c *Conn) Follow(ctx context.Context, generation uint64) error {
	return c.become(ctx, RoleSlave, generation)
}

// become asks for a role and checks that it was given.
func (c *Conn) become(ctx context.Context, want Role, generation uint64) error {
	got, _, err := c.SetRole(ctx, want, generation)
	if err == nil && got != want {
		err = malformed("the switch answered with role %s", got)
	}
	if err != nil {
		return fmt.Errorf("become %s under generation %d: %w", want, generation, err)
	}
	return nil
}

// SetRole asks for a role and returns the one that the connection has now,
// with the newest generation that the switch has seen (section 7.3.8). An
// older generation is refused with ErrStale; RoleNoChange and RoleEqual do not
// look at it. The switch answers generation 1<<64-1 as long as it has seen
// none.
func (c *Conn) SetRole(ctx context.Context, r Role, generation uint64) (Role, uint64, error) {
	m, err := c.callOne(ctx, TypeRoleReply, func(b []byte, xid uint32) []byte {
		return appendMessage(b, TypeRoleRequest, xid, roleBody(r, generation))
	})
	if err != nil {
		return 0, 0, err
	}
	return decodeRole(m)
}

func roleBody(r Role, generation uint64) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(r))
	return binary.BigEndian.AppendUint64(zeros(b, 4), generation)
}

func decodeRole(m Message) (Role, uint64, error) {
	if m.Type != TypeRoleReply || len(m.Body) < 16 {
		return 0, 0, malformed("role reply of type %d, %d bytes", m.Type, len(m.Body))
	}
	return Role(binary.BigEndian.Uint32(m.Body)), binary.BigEndian.Uint64(m.Body[8:]), nil
}

// RoleReason says why a connection's role changed (section 7.4.4, enum
// ofp_controller_role_reason).
type RoleReason uint8

// Reasons for a change of role.
const (
	RoleMasterRequest RoleReason = iota // another connection became master
	RoleConfig
	RoleExperimenter
)

// RoleStatus tells a connection that its role was changed by somebody else
// (section 7.4.4).
type RoleStatus struct {
	Role   Role
	Reason RoleReason
	// Generation is the newest that the switch has seen.
	Generation uint64
}

// DecodeRoleStatus reads an asynchronous TypeRoleStatus message.
func DecodeRoleStatus(m Message) (RoleStatus, error) {
	b := m.Body
	if m.Type != TypeRoleStatus || len(b) < 16 {
		return RoleStatus{}, malformed("role status of type %d, %d bytes", m.Type, len(b))
	}
	return RoleStatus{Role: Role(binary.BigEndian.Uint32(b)), Reason: RoleReason(b[4]), Generation: binary.BigEndian.Uint64(b[8:])}, nil
}
