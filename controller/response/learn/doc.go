// Package learn chooses a rung of the response ladder from what came of earlier
// choices: a conservative contextual bandit. It opens no socket and touches no
// switch. It is asked for one of the rungs that the playbook and the guards
// leave open, and the guards look at its answer as at any other.
//
// The rule is the rung of the playbook. A Policy estimates the reward of each
// rung in a context by ridge regression, a model for each rung, and prefers the
// rung with the highest upper confidence bound (LinUCB: Li, Chu, Langford,
// Schapire: A contextual-bandit approach to personalized news article
// recommendation, WWW 2010). It may take another rung than the rule's only while
// a lower bound of all that it has earned, this decision included, stays at or
// above (1 - alpha) of what the rule would have earned (CLUCB for an unknown
// baseline: Kazerouni, Ghavamzadeh, Abbasi-Yadkori, Van Roy: Conservative
// contextual linear bandits, NeurIPS 2017, arXiv 1611.06426). The bounds are
// those of Abbasi-Yadkori, Pal, Szepesvari: Improved algorithms for linear
// stochastic bandits, NeurIPS 2011; where rewards have come, their sum and
// Azuma's inequality are used where that is tighter.
//
// Each choice is written down with its context, what was open, and the exact
// probability of each rung, from the first day and also when nothing is learned;
// so is what came of it. From this Log a Report estimates beforehand what a
// policy would earn: by inverse propensity scores (Horvitz, Thompson 1952), the
// same self-normalised (Swaminathan, Joachims: The self-normalized estimator for
// counterfactual learning, NeurIPS 2015), and doubly robust (Dudik, Langford,
// Li: Doubly robust policy evaluation and learning, ICML 2011). Models are
// fitted on other decisions than those they are judged by (cross-fitting), split
// by target, because what one host does is not independent. A policy goes live
// only when somebody promotes it, which is refused while the lower bound of its
// advantage over the rule is not above zero; it falls back to the rule by itself
// when it earns less than (1 - alpha) of the rule.
//
// What operators object to counts against a rung, but only so often a day, of one
// and of all: who floods it with verdicts, or with a stolen login, promotes nothing.
// Somebody who does so for weeks still can; the log of choices names him.
//
// What the method leaves open: linear models are wrong in detail; bounds hold
// for rewards that do not depend on earlier choices; a rung that was never tried
// in a kind of context has no estimate there, and the Report says so.
package learn
