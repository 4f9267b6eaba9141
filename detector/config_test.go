package detector

import (
	"testing"
	"time"
)

func TestDefaultConfigIsValid(t *testing.T) {
	c := DefaultConfig()
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func TestValidateRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*Config){
		"zero":             func(c *Config) { *c = Config{} },
		"thetas swapped":   func(c *Config) { c.Scan.Theta0, c.Scan.Theta1 = 0.2, 0.8 },
		"alpha above beta": func(c *Config) { c.Scan.Alpha = 0.995 },
		"no timeout":       func(c *Config) { c.Scan.ReplyTimeout = 0 },
		"margin too long":  func(c *Config) { c.Scan.AnswerMargin = time.Second },
		"ARP failures":     func(c *Config) { c.ARP.Failures = arpOutstanding + 1 },
		"cap below floor":  func(c *Config) { c.UDP.Cap = 1 },
		"margin below 1":   func(c *Config) { c.SYN.All.Margin = 0.5 },
		"no cells":         func(c *Config) { c.Limit.Cells = 0 },
		"keeps nothing":    func(c *Config) { c.KeepFiring = 0 },
	} {
		c := DefaultConfig()
		spoil(&c)
		if c.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := New(c); err == nil {
			t.Errorf("%s: New accepted it", name)
		}
	}
}
