package attack

// Packets are the attacks with frames of our own, for tests.
func Packets() []Attack { return packets() }
