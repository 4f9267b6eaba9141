package detector

import "github.com/platelet-sdn/platelet/flowcollector/flow"

// habit says how services are used by honest clients.
type habit uint8

const (
	// habitUnknown: no service is registered there that many use.
	habitUnknown habit = iota
	// habitPerson is what people log in by, and what files are copied with.
	habitPerson
	// habitWeb is what everything goes over, people and machines; habitAltWeb
	// the same where it is not expected.
	habitWeb
	habitAltWeb
	// habitClock is asked at intervals by its nature: time, names, leases,
	// metrics, field buses, mail, queues, databases. That a client is regular
	// says nothing.
	habitClock
)

// habitOf tells by the port (IANA's registry, and for industrial protocols the
// list of ICSNPP).
func habitOf(k contactKey) habit {
	p := k.port()
	if p == 0 {
		return habitClock // some exports have no ports: nothing is known
	}
	switch k.proto() {
	case flow.ProtoTCP:
		switch {
		case p == 80, p == 443:
			return habitWeb
		case p == 8000, p == 8008, p == 8080, p == 8081, p == 8088, p == 8443, p == 8888, p == 3128:
			return habitAltWeb
		case p >= 20 && p <= 23, p == 990, p == 3389, p >= 5900 && p <= 5903:
			return habitPerson
		case isClock(p) || isClockTCP(p):
			return habitClock
		}
	case flow.ProtoUDP:
		switch {
		case p == 443:
			return habitWeb
		case p < 1024, isClock(p):
			return habitClock
		}
	default:
		return habitClock
	}
	return habitUnknown
}

// isClock lists services of both transports: time, names, leases, monitoring,
// telephony, discovery, authentication, field buses.
func isClock(p uint16) bool {
	switch p {
	case 53, 67, 68, 123, 137, 138, 161, 162, 319, 320, 323, 514, 546, 547, 853, 1812, 1813, 1900, 2055, 3478, 3702, 4739, 5060, 5061,
		5353, 5355, 5683, 5684, 6343, 6514, 9100, 9995, 10050, 10051:
		return true
	}
	return isFieldbus(p)
}

// isFieldbus lists protocols that field devices are polled by.
func isFieldbus(p uint16) bool {
	switch p {
	case 102, 502, 2222, 2404, 4840, 18245, 20000, 34962, 34963, 34964, 44818, 47808:
		return true
	}
	return false
}

// isAdaptive lists protocols whose clients choose their intervals themselves:
// names, leases, time, discovery, keeping a mapping open.
func isAdaptive(p uint16) bool {
	switch p {
	case 53, 67, 68, 123, 137, 138, 323, 546, 547, 1900, 3478, 3702, 5353, 5355:
		return true
	}
	return false
}

// isClockTCP lists services that clients keep coming back to: directories,
// files, mail, messages, databases, metrics, updates of routing.
func isClockTCP(p uint16) bool {
	switch p {
	case 25, 88, 110, 111, 135, 139, 143, 179, 389, 445, 464, 465, 515, 587, 631, 636, 646, 873, 993, 995,
		1433, 1521, 1883, 2049, 2379, 2380, 3260, 3268, 3269, 3306, 4222, 5222, 5223, 5228, 5269, 5432, 5671, 5672, 5985, 5986,
		6379, 6443, 8883, 9090, 9092, 9093, 9200, 9300, 10250, 11211, 27017:
		return true
	}
	return false
}
