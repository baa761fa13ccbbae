package specedit

import (
	"errors"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func dockerSpec(h Host) (*specs.Spec, error) {
	return nil, errors.New("make a config: the template \"docker\" is not supported")
}
