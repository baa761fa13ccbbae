// Package hostile holds the archives that have broken other extractors, and shows what they do to ours and to others.
//
// Each case is an archive in the words of package tarscript with the outcome that is promised: it is refused with an exit
// code and leaves nothing, or it is contained and the tree is the one declared. It runs as root and as an ordinary user,
// beside files outside the rootfs that must stay as they are to the inode's change time. And each names extractors, naive or
// real, that it bites, and how: a case that bites nobody tests nothing.
package hostile
