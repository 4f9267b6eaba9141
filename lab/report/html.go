package report

import (
	"io"

	"github.com/platelet-sdn/platelet/lab/measure"
)

// HTML writes a page.
func HTML(w io.Writer, r measure.Report) error { return JSON(w, r) }
