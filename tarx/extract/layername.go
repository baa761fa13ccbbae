package extract

// LayerName says what a normalized name in a layer stands for. A whiteout hides name in dir, or
// all of dir where name is nil; neither that nor metadata of aufs is an entry.
func LayerName(full []byte) (dir, name []byte, isWhiteout, isEntry bool, err error) {
	w, err := parseWhiteout(full)
	return w.dir, w.name, w.kind == whiteoutOne || w.kind == whiteoutAll, w.kind == whiteoutNone, err
}
