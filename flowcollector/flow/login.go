package flow

// Login is what the first bytes of a TCP segment's payload say about who gets
// in, where they were captured and are not encrypted.
type Login uint8

// What services say about logins.
const (
	// LoginUnknown is everything else.
	LoginUnknown Login = iota
	// LoginRefused is the answer to a wrong name or password, or to none.
	LoginRefused
	// LoginAnswered is any other answer of a protocol that would have said
	// so: whoever asked is served.
	LoginAnswered
	// LoginGreeting begins a protocol that does nothing before a login and
	// says no more in the clear: SSH, VNC.
	LoginGreeting
)
