// Package model is the supervised classifier: it learns from labelled windows
// of hosts (a vector of features each) how probable it is that a window shows a
// threat, and says which features made it think so. It is pure: vectors and
// bytes in, numbers and bytes out.
//
// # Learners
//
// Every feature is cut into at most 16 bins at quantiles of the training data,
// so that nothing depends on units or outliers and no value, however extreme,
// can move a score further than the last bin does. Two learners of different
// nature share the bins:
//
//   - a logistic regression on the thermometer code of the bins, trained online
//     by FTRL-Proximal (McMahan et al., "Ad click prediction: a view from the
//     trenches", KDD 2013). What it learns of a feature is a step function; the
//     L1 term removes steps, which is what few labels need. Its state is part of
//     the model, so that training continues where it stopped.
//   - gradient-boosted trees of depth two (Friedman, "Greedy function
//     approximation", Annals of Statistics 29, 2001; leaf weights by Newton's
//     step as in Chen and Guestrin, "XGBoost", KDD 2016), which see pairs of
//     features. They are trained anew where a site has labels enough, else
//     a few are added.
//
// The mean of the two log odds is calibrated by Platt's sigmoid ("Probabilistic
// outputs for support vector machines", 1999, with the targets of Lin, Lin and
// Weng, Machine Learning 68, 2007) on data that the learners did not see: whole
// sets left out where there are several, else whole hosts. The share of threats
// in training data says nothing of a network's, so the log odds are shifted to a
// stated prior (King and Zeng, Political Analysis 9, 2001).
//
// # Explanation
//
// Both learners are sums over features: steps of the logistic regression, and
// for a tree the differences of node values along the path (Saabas, 2014). The
// parts of Explain add up to the score exactly.
//
// # Trust
//
// A model file names its features, what it was trained on, by whom, and how well
// it did on what it had not seen, and carries its own hash; Decode refuses
// everything that does not fit or exceeds its bounds. Labels of operators weigh
// little each, and in sum per operator and day; single updates are clipped; and
// a training that turns over what was known is refused (see Limits and Train).
package model
