package audit

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
)

// OCSFVersion is the version of the Open Cybersecurity Schema Framework whose
// classes OCSF writes.
const OCSFVersion = "1.5.0"

// The classes, with their category.
const (
	ocsfDetection   = 2004 // Detection Finding, of category 2, Findings
	ocsfRemediation = 7004 // Network Remediation Activity, of category 7, Remediation
)

// object is a JSON object of OCSF, whose shape depends on what is known.
type object = map[string]any

// OCSF returns an entry as an event of OCSF: findings and verdicts on them as
// Detection Finding (2004), what was done to the network and undone as Network
// Remediation Activity (7004). Other entries have no class there; ok is false.
func OCSF(e *Entry) (event any, ok bool) {
	verb, family := e.family()
	switch {
	case family == FindingPrefix:
		return e.detection(verb), true
	case family == OperatorPrefix && verb == "feedback":
		return e.detection(verb), true
	case family == DecisionPrefix:
		return e.remediation(verb)
	}
	return nil, false
}

// base are the attributes that every class has.
func (e *Entry) base(class, activity int, severity detector.Severity) object {
	meta := object{
		"version": OCSFVersion, "uid": fmt.Sprintf("%s/%d", e.Run, e.Seq), "sequence": e.Seq, "log_name": "audit", "event_code": e.What,
		"product": object{"name": "Platelet", "vendor_name": "Platelet"},
	}
	if e.Finding != "" {
		meta["correlation_uid"] = e.Finding
	}
	return object{
		"class_uid": class, "category_uid": class / 1000, "activity_id": activity, "type_uid": class*100 + activity,
		"severity_id": severityID(severity), "time": e.Time.UnixMilli(), "message": e.Sentence(), "metadata": meta,
	}
}

func severityID(s detector.Severity) int {
	switch s {
	case detector.SeverityLow:
		return 2
	case detector.SeverityMedium:
		return 3
	case detector.SeverityHigh:
		return 4
	case detector.SeverityCritical:
		return 5
	}
	return 1 // informational
}

// detection is the entry as a Detection Finding.
func (e *Entry) detection(verb string) object {
	activity, status := 1, 1 // created, new
	switch {
	case verb == string(detector.StateResolved):
		activity, status = 3, 4 // closed, resolved
	case verb == "feedback" && e.After == "false":
		activity, status = 2, 3 // updated, suppressed
	case verb == "feedback":
		activity, status = 2, 2 // updated, in progress
	}
	a := e.About
	if a == nil {
		a = &About{}
	}
	out := e.base(ocsfDetection, activity, a.Severity)
	info := object{"uid": e.Finding}
	if a.Kind != "" {
		info["title"] = string(a.Kind)
		info["types"] = []string{string(a.Kind)}
		info["analytic"] = object{"type_id": 2, "name": string(a.Kind)} // behavioral
		out["confidence_score"] = int(math.Round(100 * min(1, max(0, a.Confidence))))
		out["is_alert"] = activity == 1
	}
	if !a.FirstSeen.IsZero() {
		info["first_seen_time"] = a.FirstSeen.UnixMilli()
	}
	if !a.Detected.IsZero() {
		info["created_time"] = a.Detected.UnixMilli()
	}
	if a.Technique != "" {
		technique, _, sub := strings.Cut(a.Technique, ".")
		attack := object{"technique": object{"uid": technique}}
		if sub {
			attack["sub_technique"] = object{"uid": a.Technique}
		}
		info["attacks"] = []object{attack}
	}
	out["finding_info"], out["status_id"] = info, status
	if verb == "feedback" && e.Why != "" {
		out["comment"] = e.Why
	}
	if list := a.evidences(e.Evidence); len(list) > 0 {
		out["evidences"] = list
	}
	return out
}

// evidences are the ends of the attack, and the features that carried the score.
func (a *About) evidences(features []detector.Evidence) []object {
	var list []object
	ends := object{}
	if src := endpoint(a.Host, 0); src != nil && !a.Spoofed {
		if !a.MAC.IsZero() {
			src["mac"] = a.MAC.String()
		}
		ends["src_endpoint"] = src
	}
	if len(a.Victims) > 0 {
		ends["dst_endpoint"] = endpoint(a.Victims[0], a.Port)
	}
	if a.Proto != 0 {
		ends["connection_info"] = connection(a.Proto, a.Host)
	}
	if len(ends) > 0 {
		list = append(list, ends)
	}
	for _, x := range features {
		list = append(list, object{"data": object{"feature": x.Feature, "value": x.Value, "baseline": x.Baseline, "contribution": x.Contribution}})
	}
	return list
}

func endpoint(a netip.Addr, port uint16) object {
	if !a.IsValid() {
		return nil
	}
	o := object{"ip": a.WithZone("").String()}
	if port != 0 {
		o["port"] = port
	}
	return o
}

// connection describes what is acted on; its direction is not ours to tell.
func connection(proto uint8, a netip.Addr) object {
	o := object{"direction_id": 0}
	if proto != 0 {
		o["protocol_num"] = proto
	}
	switch {
	case a.Is4():
		o["protocol_ver_id"] = 4
	case a.Is6():
		o["protocol_ver_id"] = 6
	}
	return o
}

// The activities of a Network Remediation Activity that we have; each is a tactic of
// D3FEND.
const (
	ocsfIsolate = 1
	ocsfRestore = 3
	ocsfDetect  = 5
)

// remediation is a decision's step as a Network Remediation Activity, where it
// is one.
func (e *Entry) remediation(verb string) (any, bool) {
	if !e.Action.Acts() {
		return nil, false
	}
	activity, status := ocsfIsolate, 1 // success
	if e.Action == response.ActionMirror {
		activity = ocsfDetect
	}
	switch response.State(verb) {
	case response.StateApplied, response.StateVerified:
	case response.StateRefused:
		status = 2 // failure
	case response.StateProbation, response.StateReleased, response.StateRolledBack, response.StateExpired:
		switch {
		case e.Proof == nil: // nothing was done that could be undone, because nobody approved it, say
			status = 2
		case e.Detail["stage"] == string(response.StageLimited):
			activity, status = ocsfRestore, 4 // partial
		default:
			activity = ocsfRestore
		}
	default:
		return nil, false
	}
	severity := detector.Severity("")
	if e.About != nil {
		severity = e.About.Severity
	}
	out := e.base(ocsfRemediation, activity, severity)
	at := response.Target{}
	if e.At != nil {
		at = *e.At
	}
	about := at.Host
	if !about.IsValid() {
		about = at.Victim
	}
	out["command_uid"], out["status_id"] = e.Decision, status
	out["connection_info"] = connection(at.Proto, about)
	out["countermeasures"] = []object{countermeasure(activity, e.Action)}
	desc := strings.TrimSpace(fmt.Sprintf("%s of %s", e.Action, at))
	if at.Port != "" {
		desc += fmt.Sprintf(" at port %s of %s", at.Port, at.Switch)
	}
	out["remediation"] = object{"desc": desc}
	return out, true
}

// countermeasure is the step in the words of MITRE D3FEND.
func countermeasure(activity int, action response.Action) object {
	tactic, uid, name := "Isolate", "D3-NTF", "Network Traffic Filtering"
	switch {
	case activity == ocsfRestore:
		tactic, uid, name = "Restore", "D3-RNA", "Restore Network Access"
	case activity == ocsfDetect:
		tactic, uid, name = "Detect", "D3-NTA", "Network Traffic Analysis"
	case action == response.ActionQuarantine:
		uid, name = "D3-NI", "Network Isolation"
	}
	return object{"d3f_tactic": object{"name": tactic}, "d3f_technique": object{"uid": uid, "name": name}}
}

// Since reports whether an entry is not older than a moment; a zero moment is
// before all.
func (e *Entry) Since(t time.Time) bool { return t.IsZero() || !e.Time.Before(t) }
