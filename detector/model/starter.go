package model

import (
	"bytes"
	_ "embed"
	"fmt"
)

// starter is the model that the program brings along; CARD.md says what it is.
//
//go:embed starter.json
var starter []byte

// Starter reads the model that the program brings along.
func Starter() (*Model, error) {
	m, err := Decode(bytes.NewReader(starter))
	if err != nil {
		return nil, fmt.Errorf("starter model: %w", err)
	}
	return m, nil
}
