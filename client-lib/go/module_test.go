// SPDX-License-Identifier: Apache-2.0

package microreg_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	microreg "github.com/microreg/microreg/client-lib/go"
)

// Each C file of the library is in the one that cgo compiles.
func TestTheWholeLibraryIsCompiledIn(t *testing.T) {
	if !microreg.HasC {
		t.Skip("built without cgo")
	}
	text, err := os.ReadFile("libmicroreg.c")
	if err != nil {
		t.Fatal(err)
	}
	sources, err := filepath.Glob("../*.c")
	if err != nil || len(sources) == 0 {
		t.Fatalf("no C sources: %v", err)
	}
	for _, source := range sources {
		if !strings.Contains(string(text), "#include \""+source+"\"\n") {
			t.Errorf("libmicroreg.c does not include %s", source)
		}
	}
}

// The module builds where the go command puts it: in a read-only folder of
// another name, and in a vendor folder, from nothing but what the module has.
func TestTheModuleBuildsElsewhere(t *testing.T) {
	root := t.TempDir()
	module := filepath.Join(root, "client-lib@v0.4.0")
	copyFiles(t, "..", module, ".c", ".h", "go.mod", ".go")
	copyFiles(t, ".", filepath.Join(module, "go"), ".c", ".h", ".go")
	program := filepath.Join(root, "program")
	write(t, filepath.Join(program, "go.mod"), "module program\n\ngo 1.21\n\n"+
		"require github.com/microreg/microreg/client-lib v0.4.0\n\n"+
		"replace github.com/microreg/microreg/client-lib => ../client-lib@v0.4.0\n")
	write(t, filepath.Join(program, "main.go"), "package main\n\n"+
		"import microreg \"github.com/microreg/microreg/client-lib/go\"\n\n"+
		"func main() { microreg.New(microreg.Options{}).Close() }\n")
	for _, words := range [][]string{
		{"build", "-mod=mod", "."}, {"mod", "vendor"}, {"build", "-mod=vendor", "."},
	} {
		cmd := exec.Command("go", words...)
		cmd.Dir = program
		cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "GOPROXY=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(words, " "), err, out)
		}
	}
}

func copyFiles(t *testing.T, from, to string, suffixes ...string) {
	t.Helper()
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		for _, suffix := range suffixes {
			if entry.IsDir() || !strings.HasSuffix(entry.Name(), suffix) ||
				strings.HasSuffix(entry.Name(), "_test.go") {
				continue
			}
			text, err := os.ReadFile(filepath.Join(from, entry.Name()))
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(to, entry.Name()), string(text))
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
