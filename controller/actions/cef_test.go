package actions

import (
	"regexp"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/controller/response/playbook"
)

// No field is longer than the dictionary of CEF (version 0.1, revision 25) allows,
// and none has a name that it does not know.
func TestCEFWithinItsDictionary(t *testing.T) {
	lengths := map[string]int{"rt": 20, "src": 15, "dst": 15, "c6a2": 39, "c6a2Label": 1023, "c6a3": 39, "c6a3Label": 1023, "smac": 17, "dpt": 5, "proto": 31,
		"deviceInboundInterface": 128, "act": 63, "externalId": 40, "cs1": 4000, "cs1Label": 1023, "cs2": 4000, "cs2Label": 1023, "msg": 1023}
	heads := []int{5, 63, 63, 31, 1023, 512, 2}
	key := regexp.MustCompile(`(^| )([A-Za-z0-9]+)=`)
	for _, why := range []string{"plain", strings.Repeat("x", 5000), strings.Repeat("ü", 2000)} {
		for _, host := range []playbook.HostFacts{{Address: "255.255.255.255", MAC: "02:00:00:00:00:07", Port: "a-port-of-15-ch"}, {Address: "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"}} {
			c := call(playbook.Notify{})
			c.Facts.Host = host
			parts := strings.SplitN(cef("v0.0.0-20261123000000-0123456789ab+dirty.of-somebody", c, why), "|", 8)
			for i, most := range heads {
				if len(parts[i]) > most {
					t.Errorf("%q has %d bytes, %d are allowed", parts[i], len(parts[i]), most)
				}
			}
			at := key.FindAllStringSubmatchIndex(parts[7], -1)
			for i, m := range at {
				end := len(parts[7])
				if i+1 < len(at) {
					end = at[i+1][0]
				}
				name, value := parts[7][m[4]:m[5]], parts[7][m[1]:end]
				if most, known := lengths[name]; !known || len(value) > most || value == "" {
					t.Errorf("%s has %d bytes, %d are allowed", name, len(value), most)
				}
			}
		}
	}
}
