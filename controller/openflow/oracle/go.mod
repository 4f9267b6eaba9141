module github.com/platelet-sdn/platelet/controller/openflow/oracle

go 1.26.8

require (
	github.com/platelet-sdn/platelet v0.0.0
	github.com/skydive-project/goloxi v0.0.0-20190117172159-db2324197a3e
	pgregory.net/rapid v1.3.0
)

require (
	github.com/vishvananda/netlink v1.3.1 // indirect
	github.com/vishvananda/netns v0.0.5 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/platelet-sdn/platelet => ../../..
