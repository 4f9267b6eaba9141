package prove

import (
	"fmt"
	"strings"

	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// describeService is a service as it could stand in a file.
func describeService(s *policy.Service) string {
	var out strings.Builder
	out.WriteString(s.Proto.String())
	for i, r := range s.Ports {
		out.WriteString(map[bool]string{true: " ", false: ","}[i == 0] + r.String())
	}
	if s.Type != nil {
		fmt.Fprintf(&out, " type %d", *s.Type)
	}
	if s.Code != nil {
		fmt.Fprintf(&out, " code %d", *s.Code)
	}
	return out.String()
}
