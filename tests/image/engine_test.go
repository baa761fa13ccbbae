package image

import (
	"os"
	"testing"

	"ocibundle/tests/testenv"
)

// The tree is what the engine makes of the image for a container.
func TestDockerSave(t *testing.T) {
	e, name := image(t)
	container := testenv.Name()
	testenv.Output(t, e.Docker(t.Context(), "create", "--name", container, name))
	export, err := os.Open(save(t, e.Docker(t.Context(), "export", container)))
	if err != nil {
		t.Fatal(err)
	}
	defer export.Close()
	want := streamTree(t, export)
	got := diskTree(t, bundle(t, save(t, e.Docker(t.Context(), "save", name)))+"/rootfs")
	compare(t, got, want, added())
}
