# SPDX-License-Identifier: Apache-2.0
"""What the lints know about C: files, comments, functions, prototypes."""

import os
import re
import subprocess

MODULES = ["base", "kv", "raft", "health", "dns", "api", "server", "client-lib"]

_TOKEN = re.compile(
    r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.S)


def files(folders=None, endings=(".c", ".h")):
    """Our C files, sorted. Generated ones live in build/ and are not seen."""
    found = []
    for folder in folders or MODULES:
        for where, _, names in sorted(os.walk(folder)):
            found += [os.path.join(where, n) for n in sorted(names)
                      if n.endswith(endings)]
    return found


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def blank(text, keep_strings=False):
    """The text with comments (and the insides of literals) as blanks. Line
    numbers and columns stay."""
    def replace(match):
        token = match.group(0)
        if token.startswith("/"):
            return re.sub(r"[^\n]", " ", token)
        if keep_strings:
            return token
        return token[0] + " " * (len(token) - 2) + token[-1]
    return _TOKEN.sub(replace, text)


class Function:
    """A definition as ctags sees it: name, lines, parameters."""

    def __init__(self, name, path, line, end, signature):
        self.name = name
        self.path = path
        self.line = line
        self.end = end
        self.signature = signature

    @property
    def length(self):
        return self.end - self.line + 1

    @property
    def n_parameters(self):
        return count_parameters(self.signature[1:-1])


def count_parameters(text):
    """The number of parameters in the text between the parentheses."""
    text = text.strip()
    if text in ("", "void"):
        return 0
    depth, count = 0, 1
    for char in text:
        depth += char in "([{"
        depth -= char in ")]}"
        count += char == "," and depth == 0
    return count


def functions(paths):
    """Every function defined in the files."""
    done = subprocess.run(
        ["ctags", "--languages=C", "--langmap=C:.c.h", "--kinds-C=f",
         "--fields=+neS", "-f", "-", "-L", "-"],
        input="\n".join(paths), capture_output=True, text=True, check=True)
    found = []
    for line in done.stdout.splitlines():
        if line.startswith("!"):
            continue
        cells = line.split("\t")
        fields = dict(c.split(":", 1) for c in cells[3:] if ":" in c)
        if "end" in fields:
            found.append(Function(cells[0], cells[1], int(fields["line"]),
                                  int(fields["end"]),
                                  fields.get("signature", "()")))
    return found


def comment_before(lines, line):
    """The comment that ends right above the (1-based) line, or ''."""
    i = line - 2
    if i < 0 or not lines[i].rstrip().endswith("*/"):
        return ""
    end = i
    while i >= 0 and "/*" not in lines[i]:
        i -= 1
    return "\n".join(lines[max(i, 0):end + 1])
