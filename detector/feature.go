package detector

// FeatureInfo describes one feature of a host's window.
type FeatureInfo struct {
	Name string
	Unit string
	// Source says which records it is made from.
	Source string
	// Log is true for features whose sizes span orders of magnitude: models
	// take log(1+x) of them.
	Log bool
	// Sampled is true when sampling only makes it noisier; false when it
	// is hidden by sampling, and then zero.
	Sampled bool
	About   string
}

// The features of a window, in the order of Window.Values.
const (
	FeatureOpens = iota
	FeatureAccepted
	FeatureFailed
	FeatureFailedShare
	FeatureServers
	FeatureServices
	FeatureServicesPerServer
	FeatureNewEdges
	FeatureNewEdgeShare
	FeatureOutside
	FeatureAdmin
	FeatureServed
	FeatureClients
	FeaturePacketsOut
	FeaturePacketsIn
	FeatureBytesOut
	FeatureBytesIn
	FeatureOutShare
	FeatureSizeMean
	FeatureSizeSpread
	FeatureRegularity
	FeaturePortEntropy
	FeatureTCPShare
	FeatureUDPShare
	FeatureICMPShare
	FeatureDNSQueries
	FeatureDNSBytes
	FeatureDNSFailed
	FeatureTTLs
	FeatureMACs
	NumFeatures
)

// Features documents the features, in the order of Window.Values.
func Features() []FeatureInfo {
	const (
		opens   = "TCP SYN of the tap, packets, first direction in logs"
		answers = "SYN+ACK, RST, unreachable; outcome in logs"
		any     = "all records that carry packets"
		names   = "UDP and TCP port 53"
	)
	return []FeatureInfo{
		{"opens", "1/min", opens, true, false, "conversations begun"},
		{"accepted", "1/min", answers, true, false, "of these, accepted"},
		{"failed", "1/min", answers, true, false, "of these, refused, unreachable or silent"},
		{"failed_share", "1", answers, false, false, "failed / (accepted + failed)"},
		{"servers", "hosts/min", any, true, true, "distinct servers (linear counting)"},
		{"services", "services/min", any, true, true, "distinct (server, protocol, port)"},
		{"services_per_server", "1", any, true, true, "services / servers"},
		{"new_edges", "1/min", any, true, true, "services of servers never talked to before"},
		{"new_edge_share", "1", any, false, true, "new_edges / services"},
		{"outside_share", "1", any, false, true, "share of the services outside private address space"},
		{"admin_services", "services/min", any, true, true, "services for administration (ssh, smb, rdp, ...)"},
		{"served", "1/min", opens, true, false, "conversations that others began with it"},
		{"clients", "hosts/min", any, true, true, "distinct clients (linear counting)"},
		{"packets_out", "packets/min", any, true, true, "packets sent"},
		{"packets_in", "packets/min", any, true, true, "packets received"},
		{"bytes_out", "bytes/min", any, true, true, "bytes sent"},
		{"bytes_in", "bytes/min", any, true, true, "bytes received"},
		{"out_share", "1", any, false, true, "bytes_out / (bytes_out + bytes_in)"},
		{"size_mean", "bytes", any, true, true, "mean size of packets sent"},
		{"size_spread", "1", any, false, true, "their standard deviation / mean"},
		{"regularity", "1", opens, false, false, "1 / (1 + variation coefficient of the intervals between opens)"},
		{"port_entropy", "1", any, false, true, "entropy of server ports over that of as many distinct ones"},
		{"tcp_share", "1", any, false, true, "share of packets sent"},
		{"udp_share", "1", any, false, true, "share of packets sent"},
		{"icmp_share", "1", any, false, true, "share of packets sent"},
		{"dns_queries", "1/min", names, true, true, "datagrams or connections to name servers"},
		{"dns_query_bytes", "bytes", names, true, true, "mean size of those"},
		{"dns_failed", "1/min", names, true, false, "those that failed, or were answered with an error where it is seen"},
		{"ttls", "1", "packets with a TTL", false, true, "changes of its packets' TTL"},
		{"macs", "1", "packets with Ethernet addresses", false, true, "changes of its Ethernet address"},
	}
}
