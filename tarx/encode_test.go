package tarx

import (
	"errors"
	"testing"
)

// Old GNU maps, whose numbers are binary, can be longer as text than a header may be.
func TestRewriteSparseMap(t *testing.T) {
	var parts []Extent
	for i := range int64(50_000) {
		parts = append(parts, Extent{1<<60 + i*1e6, 10})
	}
	if _, _, err := AppendHeader(nil, &OutHeader{Type: TypeReg, Name: "f", Size: 1 << 61, Sparse: parts}); !errors.Is(err, ErrHeaderSize) {
		t.Errorf("a map of %d extents: %v", len(parts), err)
	}
	b, stored, err := AppendHeader(nil, &OutHeader{Type: TypeReg, Name: "f", Size: 1 << 61, Sparse: parts[:1000]})
	if err != nil || stored != 10000 || len(b)%BlockSize != 0 {
		t.Errorf("a map of 1000 extents: %d bytes in front of %d, %v", len(b), stored, err)
	}
}
