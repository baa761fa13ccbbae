package image

import "testing"

func TestParsePlatform(t *testing.T) {
	for text, want := range map[string]string{
		"linux/amd64": "linux/amd64", "linux/amd64/v1": "linux/amd64", "linux/amd64/v3": "linux/amd64/v3", "Linux/x86_64": "linux/amd64",
		"linux/arm64/v8": "linux/arm64", "linux/arm64/8": "linux/arm64", "linux/aarch64": "linux/arm64", "linux/arm": "linux/arm",
		"linux/arm/v7": "linux/arm", "linux/armhf": "linux/arm", "linux/armel": "linux/arm/v6", "linux/i386": "linux/386", "linux/s390x": "linux/s390x",
		"": "", "linux": "", "linux/": "", "/amd64": "", "linux//v7": "", "linux/arm/v7/": "", "linux/a/b/c": "", "windows/amd64": "", "darwin/arm64": "",
	} {
		p, err := ParsePlatform(text)
		if want == "" {
			if err == nil {
				t.Errorf("%q is %v", text, p)
			}
		} else if err != nil || p.String() != want {
			t.Errorf("%q is %v, %v; want %s", text, p, err, want)
		}
	}
}
