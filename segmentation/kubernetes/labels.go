package kubernetes

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// NamespaceLabel is the label of a workload that holds the name of a pod's
// namespace. No label of a pod is called so, as theirs have no colon.
const NamespaceLabel = "k8s:namespace"

// namespacePrefix stands before the labels of a pod's namespace.
const namespacePrefix = "ns:"

// Labels are the labels of the workload that stands for a pod: the pod's own
// under their names, those of its namespace behind "ns:", with the one that
// every cluster adds (kubernetes.io/metadata.name), and NamespaceLabel.
func Labels(namespace string, ofNamespace, ofPod map[string]string) map[string]string {
	out := maps.Clone(ofPod)
	if out == nil {
		out = map[string]string{}
	}
	for k, v := range ofNamespace {
		out[namespacePrefix+k] = v
	}
	out[namespacePrefix+"kubernetes.io/metadata.name"] = namespace
	out[NamespaceLabel] = namespace
	return out
}

// wanted is what a selector wants of one label.
type wanted struct {
	exists, absent bool
	in             []string // nil: any
	notIn          []string
}

// text is the form of policy.Group's selectors; ok is false when no label fits.
func (w *wanted) text() (text string, ok bool) {
	if w.absent {
		return "!*", !w.exists && w.in == nil
	}
	if w.in != nil {
		values := slices.DeleteFunc(slices.Clone(w.in), func(v string) bool { return slices.Contains(w.notIn, v) })
		return strings.Join(values, "|"), len(values) > 0
	}
	switch not := strings.Join(w.notIn, "|"); {
	case w.notIn == nil:
		return "*", true
	case w.exists:
		return "*!" + not, true
	default:
		return "!" + not, true
	}
}

var (
	labelKey   = regexp.MustCompile(`^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)
	labelValue = regexp.MustCompile(`^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$`)
)

// add adds what a selector wants, behind a prefix, to what is wanted already.
func (s *labelSelector) add(want check, prefix string, all map[string]*wanted) {
	of := func(path, key string) *wanted {
		want(labelKey.MatchString(key) && len(key) <= 253+1+63, path, "%q is not the key of a label", key)
		if all[prefix+key] == nil {
			all[prefix+key] = &wanted{}
		}
		return all[prefix+key]
	}
	for _, key := range slices.Sorted(maps.Keys(s.MatchLabels)) {
		path, value := "matchLabels."+key, s.MatchLabels[key]
		want(labelValue.MatchString(value), path, "%q is not the value of a label", value)
		of(path, key).only([]string{value})
	}
	for i, e := range s.MatchExpressions {
		path := fmt.Sprintf("matchExpressions[%d]", i)
		w := of(path+".key", e.Key)
		for _, value := range e.Values {
			want(labelValue.MatchString(value), path+".values", "%q is not the value of a label", value)
		}
		switch e.Operator {
		case "In":
			want(len(e.Values) > 0, path+".values", "In needs values")
			w.only(e.Values)
		case "NotIn":
			want(len(e.Values) > 0, path+".values", "NotIn needs values")
			w.notIn = union(w.notIn, e.Values)
		case "Exists", "DoesNotExist":
			want(len(e.Values) == 0, path+".values", "%s has no values", e.Operator)
			w.exists = w.exists || e.Operator == "Exists"
			w.absent = w.absent || e.Operator == "DoesNotExist"
		default:
			want(false, path+".operator", "%q is not In, NotIn, Exists or DoesNotExist", e.Operator)
		}
	}
}

// only narrows the values.
func (w *wanted) only(values []string) {
	if w.in == nil {
		w.in = union([]string{}, values)
		return
	}
	w.in = slices.DeleteFunc(w.in, func(v string) bool { return !slices.Contains(values, v) })
}

func union(a, b []string) []string {
	out := append(slices.Clone(a), b...)
	slices.Sort(out)
	return slices.Compact(out)
}

// selector is the form of policy.Group's; ok is false when it fits nobody.
func selector(all map[string]*wanted) (map[string]string, bool) {
	out := map[string]string{}
	for key, w := range all {
		text, ok := w.text()
		if !ok {
			return nil, false
		}
		out[key] = text
	}
	return out, true
}
