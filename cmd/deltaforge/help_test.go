package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// What the command line says of itself is about this program.
func TestHelpAndVersion(t *testing.T) {
	dir := testenv.TempDir(t)
	p := launch(t, dir, nil, "--help")
	assert.Zero(t, p.wait())
	for _, want := range []string{"row changes of MySQL, MariaDB and PostgreSQL", "deltaforge demo", "validate", "completion"} {
		assert.Contains(t, p.out.String(), want)
	}
	assert.NotContains(t, p.out.String(), "mundane")
	for _, arg := range []string{"--version", "-v", "version"} {
		p = launch(t, dir, nil, arg)
		assert.Zero(t, p.wait())
		assert.Regexp(t, `^deltaforge \S.*, go1\S*, \w+/\w+\n$`, p.out.String())
	}
}

// The completion of bash completes commands and their flags.
func TestCompletion(t *testing.T) {
	dir := testenv.TempDir(t)
	p := launch(t, dir, nil, "completion", "bash")
	assert.Zero(t, p.wait(), p.out)
	script := p.out.String() + `
for typed in "che" "checkpoint sh" "run --log" "validate --off"; do
  COMP_WORDS=(deltaforge $typed); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _deltaforge; echo "${COMPREPLY[@]}"
done
`
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	assert.Equal(t, "checkpoint\nshow\n--log.level\n--offline\n", string(out))
	for shell, want := range map[string]string{"zsh": "bashcompinit", "fish": "complete -c deltaforge -n __fish_use_subcommand -a validate"} {
		p = launch(t, dir, nil, "completion", shell)
		assert.Zero(t, p.wait())
		assert.Contains(t, p.out.String(), want)
	}
	p = launch(t, dir, nil, "completion", "tcsh")
	assert.Equal(t, 1, p.wait())
	assert.Contains(t, p.out.String(), `want bash, zsh or fish, got "tcsh"`)
}

func TestValidateCommand(t *testing.T) {
	dir := testenv.TempDir(t, "good.yaml", "bad.yaml")
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write("good.yaml", strings.ReplaceAll(source, "127.0.0.1:1", "127.0.0.1:2"))
	write("bad.yaml", source+"nonsense: 1\n")
	p := launch(t, dir, nil, "validate", "--offline", "good.yaml")
	assert.Zero(t, p.wait(), p.out)
	assert.Equal(t, "good.yaml: valid\n", p.out.String())
	p = launch(t, dir, nil, "validate", "*.yaml")
	assert.Equal(t, 1, p.wait())
	assert.Contains(t, p.out.String(), "bad.yaml: ")
	assert.Contains(t, p.out.String(), "nonsense")
	assert.Contains(t, p.out.String(), "good.yaml: src: connecting to 127.0.0.1:2 as u")
	assert.NotContains(t, p.out.String(), "hunter2")
	p = launch(t, dir, nil, "validate")
	assert.Equal(t, 1, p.wait())
}
