package document

import (
	"fmt"
	"os"
)

// Fingerprint changes when a file does.
func Fingerprint(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return "gone"
	}
	return fmt.Sprint(info.ModTime().UnixNano(), " ", info.Size())
}
