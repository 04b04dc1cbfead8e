// Package secrets finds passwords where none may be: in what a test run has said and written.
package secrets

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// shortest is the length from which a word is not found by chance.
const shortest = 8

// Hunt looks for words that were used as passwords. The zero value is ready; methods may be called from any goroutine.
type Hunt struct {
	mu    sync.Mutex
	words map[string]string // word to what it is; guarded by mu
}

// Add makes a word one to look for. What says in findings which one it was: they must not repeat the word.
func (h *Hunt) Add(what, word string) error {
	if len(word) < shortest {
		return fmt.Errorf("%s is shorter than %d bytes, so finding it would prove nothing", what, shortest)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.words == nil {
		h.words = map[string]string{}
	}
	h.words[word] = what
	return nil
}

// Len is how many words there are.
func (h *Hunt) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.words)
}

// In returns what is in text, as "<what>, <form>", sorted.
func (h *Hunt) In(text []byte) (found []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for word, what := range h.words {
		for form, written := range Forms(word) {
			if slices.ContainsFunc(written, func(w string) bool { return bytes.Contains(text, []byte(w)) }) {
				found = append(found, what+", "+form)
			}
		}
	}
	slices.Sort(found)
	return found
}

// Search looks through every file under dir, names included. It returns what it found, as "<path>: <what>, <form>", and how many
// files it read. A file that goes away meanwhile is none.
func (h *Hunt) Search(dir string) (found []string, files int, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		for _, f := range h.In([]byte(e.Name())) {
			found = append(found, "a file's name: "+f)
		}
		if !e.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return nil
		}
		files++
		for _, f := range h.In(text) {
			found = append(found, path+": "+f)
		}
		return err
	})
	if err != nil {
		err = fmt.Errorf("looking for passwords in %s: %w", dir, err)
	}
	return found, files, err
}

// Verify returns an error when a word is in what dir holds. That the search finds what is there, it shows with a word of its own.
func (h *Hunt) Verify(dir string) error {
	const canary = "canary+&7fLw/2="
	path := filepath.Join(dir, "canary")
	err := errors.Join(
		h.Add("the canary", canary),
		os.WriteFile(path, []byte(base64.StdEncoding.EncodeToString([]byte("user:"+canary))), 0o600),
	)
	found, files, searchErr := h.Search(dir)
	if err = errors.Join(err, searchErr); err != nil {
		return err
	}
	rest := slices.DeleteFunc(slices.Clone(found), func(f string) bool { return f == path+": the canary, in base64" })
	switch {
	case len(rest) == len(found):
		return errors.New("the search for passwords does not find one that is there")
	case len(rest) > 0:
		return fmt.Errorf("passwords of this run are in what was said or written:\n%s", strings.Join(rest, "\n"))
	}
	fmt.Printf("none of %d passwords in %d files\n", h.Len()-1, files-1)
	return nil
}

// Forms are the ways in which a word may have been written. Base64 is that of any text which contains the word.
func Forms(word string) map[string][]string {
	forms := map[string][]string{"as it is": {word}}
	escaped := []string{url.QueryEscape(word), url.PathEscape(word), url.UserPassword("", word).String()[1:]}
	quoted, err := json.Marshal(word)
	if err == nil {
		forms["in JSON"] = []string{strings.Trim(string(quoted), `"`)}
	}
	forms["escaped for a URL"] = escaped
	forms["in base64"] = slices.Concat(base64Of(word, base64.RawStdEncoding), base64Of(word, base64.RawURLEncoding))
	forms["in hexadecimal"] = []string{hex.EncodeToString([]byte(word)), strings.ToUpper(hex.EncodeToString([]byte(word)))}
	for form, written := range forms {
		if form != "as it is" && form != "in base64" {
			forms[form] = slices.DeleteFunc(written, func(w string) bool { return w == word })
		}
	}
	return forms
}

// base64Of returns the part of the encoding that depends on the word alone, for each of the three places in a group of
// three bytes at which it may begin.
func base64Of(word string, enc *base64.Encoding) []string {
	var written []string
	for before := range 3 {
		text := enc.EncodeToString(append(make([]byte, before), word...))
		from := (before*8 + 5) / 6         // characters with bits of what is before
		to := (before*8 + len(word)*8) / 6 // characters that are full of the word's bits
		written = append(written, text[from:to])
	}
	return written
}
