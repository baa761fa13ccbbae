package hostile

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

func init() {
	readers["reads-ustar-size"] = func(_ *scene, a []byte) string { return simpleList(a, quirks{ustarSize: true}) }
	readers["reads-pax-on-longname"] = func(_ *scene, a []byte) string { return simpleList(a, quirks{paxOnLongName: true}) }
	readers["reads-bodies"] = func(_ *scene, a []byte) string { return simpleList(a, quirks{bodies: true}) }
	readers["reads-pax-loosely"] = func(_ *scene, a []byte) string { return simpleList(a, quirks{loosePAX: true}) }
	readers["reads-numbers-loosely"] = func(_ *scene, a []byte) string { return simpleList(a, quirks{looseNumbers: true}) }
	readers["reads-no-checksum"] = func(_ *scene, a []byte) string { return simpleList(a, quirks{}) }
}

// quirks are ways to lose step with every other reader of the same archive.
type quirks struct {
	ustarSize     bool // the size of a PAX header is passed over (CVE-2025-62518)
	paxOnLongName bool // the size of a PAX header is taken for that of the 'L' or 'K' header behind it
	loosePAX      bool // what is not a record is passed over
	looseNumbers  bool // what is not a number, or no size, is 0
	bodies        bool // a size is a body, whatever the type
}

// simpleList is the reader that fits on a page: names and sizes, and no check at all.
func simpleList(archive []byte, q quirks) string {
	var names strings.Builder
	records := map[string]string{}
	longName := ""
	for len(archive) >= 512 {
		h := archive[:512]
		if h[0] == 0 && strings.Trim(string(h), "\x00") == "" {
			return names.String()
		}
		text := func(from, to int) string {
			s, _, _ := strings.Cut(string(h[from:to]), "\x00")
			return strings.TrimSpace(s)
		}
		typeflag := h[156]
		size, err := strconv.ParseInt("0"+text(124, 136), 8, 64)
		if err != nil && !q.looseNumbers {
			return names.String() + readError
		}
		isMeta := strings.ContainsRune("xgLK", rune(typeflag))
		if value, ok := records["size"]; ok && (!q.ustarSize && !isMeta || q.paxOnLongName && isMeta && typeflag != 'x') {
			size, _ = strconv.ParseInt(value, 10, 64)
		}
		if strings.ContainsRune("123456", rune(typeflag)) && !q.bodies {
			size = 0
		}
		body := archive[512:]
		if q.looseNumbers && (size < 0 || size == math.MaxInt64) {
			size = 0
		}
		if size < 0 || size > int64(len(body)) {
			return names.String() + readError
		}
		archive = body[min((size+511)&^511, int64(len(body))):]
		switch body = body[:size]; typeflag {
		case 'x':
			for rest := string(body); rest != ""; {
				length, _, _ := strings.Cut(rest, " ")
				n, err := strconv.Atoi(length)
				if err != nil || n <= len(length) || n > len(rest) {
					if q.loosePAX {
						break
					}
					return names.String() + readError
				}
				key, value, _ := strings.Cut(strings.TrimSuffix(rest[len(length)+1:n], "\n"), "=")
				records[key] = value
				rest = rest[n:]
			}
		case 'L':
			longName, _, _ = strings.Cut(string(body), "\x00")
		case 'g', 'K':
		default:
			name := text(0, 100)
			if longName != "" {
				name = longName
			}
			if path, ok := records["path"]; ok {
				name = path
			}
			fmt.Fprintln(&names, name)
			records, longName = map[string]string{}, ""
		}
	}
	return names.String() + readError
}
