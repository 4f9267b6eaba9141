package recommend

// cluster groups items by average linkage (UPGMA): the two groups that are most
// alike on average are joined until none are as alike as the threshold. Weights
// are how many items each stands for. It returns the group of each item,
// numbered in the order of their first items. Time and memory are quadratic.
func cluster(weights []float64, likeness func(i, j int) float64, threshold float64) []int {
	n := len(weights)
	l := &linkage{n: n, weight: append([]float64(nil), weights...), like: make([]float32, n*n), best: make([]int, n), into: make([]int, n), gone: make([]bool, n)}
	for i := range n {
		l.into[i] = i
		for j := range i {
			v := float32(likeness(i, j))
			l.like[i*n+j], l.like[j*n+i] = v, v
		}
	}
	for i := range n {
		l.nearest(i)
	}
	for {
		i := l.closest()
		if i < 0 || float64(l.like[i*n+l.best[i]]) < threshold {
			break
		}
		l.join(i, l.best[i])
	}
	return l.numbers()
}

type linkage struct {
	n      int
	weight []float64
	like   []float32
	best   []int // the most alike of those that are left; -1 without any
	into   []int // where one that is gone went
	gone   []bool
}

// nearest looks for the one most alike to i; the first of equals.
func (l *linkage) nearest(i int) {
	l.best[i] = -1
	for j := range l.n {
		if j != i && !l.gone[j] && (l.best[i] < 0 || l.like[i*l.n+j] > l.like[i*l.n+l.best[i]]) {
			l.best[i] = j
		}
	}
}

// closest is the first of the pair that is most alike; -1 without pairs.
func (l *linkage) closest() int {
	found := -1
	for i := range l.n {
		if l.gone[i] || l.best[i] < 0 {
			continue
		}
		if found < 0 || l.like[i*l.n+l.best[i]] > l.like[found*l.n+l.best[found]] {
			found = i
		}
	}
	return found
}

// join puts two groups together, by the update of Lance and Williams.
func (l *linkage) join(i, j int) {
	if j < i {
		i, j = j, i
	}
	a, b := l.weight[i], l.weight[j]
	l.gone[j], l.into[j] = true, i
	l.weight[i] = a + b
	for k := range l.n {
		if k == i || l.gone[k] {
			continue
		}
		v := float32((a*float64(l.like[i*l.n+k]) + b*float64(l.like[j*l.n+k])) / (a + b))
		l.like[i*l.n+k], l.like[k*l.n+i] = v, v
	}
	l.nearest(i)
	for k := range l.n {
		if k == i || l.gone[k] {
			continue
		}
		switch {
		case l.best[k] == i || l.best[k] == j:
			l.nearest(k)
		case l.like[k*l.n+i] > l.like[k*l.n+l.best[k]]:
			l.best[k] = i
		}
	}
}

func (l *linkage) numbers() []int {
	out, next := make([]int, l.n), map[int]int{}
	for i := range l.n {
		root := i
		for l.into[root] != root {
			root = l.into[root]
		}
		if _, has := next[root]; !has {
			next[root] = len(next)
		}
		out[i] = next[root]
	}
	return out
}
