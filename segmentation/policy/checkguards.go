package policy

// checkSourceGuards checks the source guards of all files.
func (r *reader) checkSourceGuards() {
	names := map[string]int{}
	for i := range r.set.SourceGuards {
		g := &r.set.SourceGuards[i]
		want := r.at(r.guards[i].doc, r.guards[i].path)
		if first, taken := names[g.Name]; taken {
			want(false, "name", "the name %s is taken in %s", g.Name, r.guards[first].position())
		} else {
			names[g.Name] = i
		}
		checkName(want, "name", g.Name)
		want(len(g.Description) <= maxText && printable(g.Description), "description", "is longer than %d bytes, or not text of one line", maxText)
		want(g.Mode != 0, "mode", "is missing (valid: staged, enforce)")
		r.peers(want, "appliesTo", g.AppliesTo, "needs those whose sources are guarded")
		for _, p := range g.AppliesTo {
			want(!g.Learned || g.Mode != ModeEnforce || !p.IsAny(), "learned", "would be enforced at every port, those that lead to routers too: name the groups")
		}
	}
	if len(r.parts) > 0 {
		r.at(r.parts[0].doc, "")(len(r.set.SourceGuards) <= maxNames, "sourceGuards", "%d source guards, at most %d are allowed", len(r.set.SourceGuards), maxNames)
	}
}
