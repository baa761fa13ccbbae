package tarx

import "github.com/moby/sys/user"

// ToContainer maps an id on the disk to one of the container. Without maps they are the same.
func ToContainer(maps []user.IDMap, id uint32) (int, bool) {
	if len(maps) == 0 {
		return int(id), true
	}
	for _, m := range maps {
		if n := int64(id) - m.ParentID; n >= 0 && n < m.Count {
			return int(m.ID + n), true
		}
	}
	return 0, false
}

// OwnerMap turns the container's ids into those on disk. Neighbours in a
// stream mostly share an owner, so the last answer is kept.
type OwnerMap struct {
	Mapping user.IdentityMapping

	known            bool
	uid, gid         uint32
	diskUID, diskGID uint32
}

// Disk maps the ids of an entry to those on the disk. The error is an *UnmappedIDError.
func (o *OwnerMap) Disk(uid, gid uint32) (uint32, uint32, error) {
	if o.known && uid == o.uid && gid == o.gid {
		return o.diskUID, o.diskGID, nil
	}
	u, err := ToDisk("uid", uid, o.Mapping.UIDMaps)
	if err != nil {
		return 0, 0, err
	}
	g, err := ToDisk("gid", gid, o.Mapping.GIDMaps)
	if err != nil {
		return 0, 0, err
	}
	o.known, o.uid, o.gid, o.diskUID, o.diskGID = true, uid, gid, u, g
	return u, g, nil
}

// ToDisk maps an id of the container to one on the disk; what is "uid" or "gid". The error is an
// *UnmappedIDError.
func ToDisk(what string, id uint32, maps []user.IDMap) (uint32, error) {
	if len(maps) == 0 {
		return id, nil
	}
	for _, m := range maps {
		if d := int64(id) - m.ID; d >= 0 && d < m.Count {
			return uint32(m.ParentID + d), nil
		}
	}
	return 0, &UnmappedIDError{What: what, ID: id, Map: maps}
}

// Shifts says that a mapping changes an id.
func Shifts(maps []user.IDMap) bool {
	for _, m := range maps {
		if m.ID != m.ParentID {
			return true
		}
	}
	return false
}
