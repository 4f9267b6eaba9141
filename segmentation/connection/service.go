package connection

import "github.com/platelet-sdn/platelet/flowcollector/flow"

// Named is a service that is known by its port.
type Named struct {
	Name string
	Port uint16
	// TCP and UDP say over which of them it is usual.
	TCP, UDP bool
}

// wellKnown lists services that networks of servers, offices and plants use,
// by their port (IANA's registry, and the defaults of products that have none
// there). It is short on purpose: a name that nobody has heard of helps
// nobody who reviews a policy.
func wellKnown() []Named {
	const tcp, udp, both = 1, 2, 3
	list := []struct {
		name string
		port uint16
		over uint8
	}{
		{"ftp", 21, tcp}, {"ssh", 22, tcp}, {"telnet", 23, tcp}, {"smtp", 25, tcp}, {"dns", 53, both},
		{"tftp", 69, udp}, {"http", 80, tcp}, {"kerberos", 88, both}, {"pop3", 110, tcp}, {"portmapper", 111, both},
		{"ntp", 123, udp}, {"msrpc", 135, tcp}, {"netbios-ns", 137, udp}, {"netbios-dgm", 138, udp}, {"netbios-ssn", 139, tcp},
		{"imap", 143, tcp}, {"snmp", 161, udp}, {"snmp-trap", 162, udp}, {"bgp", 179, tcp}, {"ldap", 389, both},
		{"https", 443, both}, {"smb", 445, tcp}, {"kpasswd", 464, both}, {"smtps", 465, tcp}, {"ike", 500, udp}, {"syslog", 514, udp},
		{"printer", 515, tcp}, {"rtsp", 554, tcp}, {"submission", 587, tcp}, {"ipp", 631, tcp}, {"ldaps", 636, tcp}, {"ospf-api", 2607, tcp},
		{"domain-tls", 853, tcp}, {"rsync", 873, tcp}, {"imaps", 993, tcp}, {"pop3s", 995, tcp}, {"openvpn", 1194, both},
		{"mssql", 1433, tcp}, {"mssql-browser", 1434, udp}, {"oracle", 1521, tcp}, {"radius", 1812, udp}, {"radius-acct", 1813, udp},
		{"mqtt", 1883, tcp}, {"ssdp", 1900, udp}, {"nfs", 2049, both}, {"etcd", 2379, tcp}, {"etcd-peer", 2380, tcp},
		{"zookeeper", 2181, tcp}, {"docker", 2375, tcp}, {"iscsi", 3260, tcp}, {"global-catalog", 3268, tcp}, {"mysql", 3306, tcp},
		{"rip", 520, udp}, {"ripng", 521, udp}, {"ptp-event", 319, udp}, {"ptp", 320, udp}, {"hsrp", 1985, udp}, {"hsrp-ipv6", 2029, udp}, {"glbp", 3222, udp}, {"ws-discovery", 3702, udp},
		{"rdp", 3389, both}, {"stun", 3478, both}, {"ipsec-nat", 4500, udp}, {"opc-ua", 4840, tcp}, {"sip", 5060, both},
		{"sips", 5061, tcp}, {"xmpp", 5222, tcp}, {"mdns", 5353, udp}, {"llmnr", 5355, udp}, {"postgresql", 5432, tcp},
		{"amqp", 5672, tcp}, {"vnc", 5900, tcp}, {"winrm", 5985, tcp}, {"winrm-tls", 5986, tcp}, {"sflow", 6343, udp}, {"redis", 6379, tcp},
		{"kubernetes", 6443, tcp}, {"openflow", 6653, tcp}, {"ovsdb", 6640, tcp}, {"vxlan", 4789, udp}, {"ipfix", 4739, both}, {"netflow", 2055, udp},
		{"http-alt", 8080, tcp}, {"https-alt", 8443, tcp}, {"mqtts", 8883, tcp}, {"cassandra", 9042, tcp}, {"prometheus", 9090, tcp},
		{"kafka", 9092, tcp}, {"node-exporter", 9100, tcp}, {"elasticsearch", 9200, tcp}, {"kubelet", 10250, tcp}, {"memcached", 11211, both},
		{"zabbix-agent", 10050, tcp}, {"zabbix", 10051, tcp}, {"wireguard", 51820, udp}, {"mongodb", 27017, tcp},
		// Plants.
		{"s7comm", 102, tcp}, {"modbus", 502, tcp}, {"iec104", 2404, tcp}, {"dnp3", 20000, both}, {"ethernet-ip", 44818, both},
		{"ethernet-ip-io", 2222, udp}, {"bacnet", 47808, udp}, {"profinet", 34964, udp}, {"fins", 9600, both},
	}
	out := make([]Named, 0, len(list))
	for _, s := range list {
		out = append(out, Named{s.name, s.port, s.over&tcp != 0, s.over&udp != 0})
	}
	return out
}

// Names tells services by their ports.
type Names struct {
	tcp, udp map[uint16]string
}

// NewNames returns the names of well-known services.
func NewNames() *Names {
	n := &Names{map[uint16]string{}, map[uint16]string{}}
	for _, s := range wellKnown() {
		if s.TCP {
			n.tcp[s.Port] = s.Name
		}
		if s.UDP {
			n.udp[s.Port] = s.Name
		}
	}
	return n
}

// Protocols by which routers find each other, and hosts tell them of groups
// (IANA's registry of protocol numbers).
const (
	protoIGMP  = 2
	protoEIGRP = 88
	protoOSPF  = 89
	protoPIM   = 103
	protoVRRP  = 112
)

// Of returns the name of a service, or false. Only echo requests have one among
// ICMP's.
func (n *Names) Of(s Service) (string, bool) {
	name := ""
	switch s.Proto {
	case flow.ProtoTCP:
		name = n.tcp[s.Port]
	case flow.ProtoUDP:
		name = n.udp[s.Port]
	case flow.ProtoICMP:
		if s.Type == 8 && s.Code == 0 {
			name = "ping"
		}
	case protoIGMP:
		name = "igmp"
	case protoEIGRP:
		name = "eigrp"
	case protoOSPF:
		name = "ospf"
	case protoPIM:
		name = "pim"
	case protoVRRP:
		name = "vrrp"
	case flow.ProtoICMPv6:
		if s.Type == 128 && s.Code == 0 {
			name = "ping"
		}
	}
	return name, name != ""
}
