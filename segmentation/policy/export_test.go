package policy

// For the tests of what is made from the code.
var (
	Comments = comments
	Same     = same
)
