"""Texts that a shell, a formatter, YAML, a path or a browser might take for more than text; one table for all tests.

Whatever of it runs makes a file PWNED where it runs.
"""

from __future__ import annotations

import os
from pathlib import Path

MARK = "PWNED"

STRINGS = {
    "substitution": "$(touch PWNED)",
    "backticks": "`touch PWNED`",
    "semicolon": "; touch PWNED",
    "and": "&& touch PWNED",
    "or": "|| touch PWNED",
    "pipe": "| touch PWNED",
    "background": "& touch PWNED &",
    "line break": "nano\ntouch PWNED\n",
    "carriage return": "nano\r\ntouch PWNED\r\n",
    "single quote": "'; touch PWNED; '",
    "double quote": '"; touch PWNED; "',
    "quotes within quotes": "\"'$(touch PWNED)'\"",
    "lone quote": "it's",
    "lone double quote": 'say "no',
    "quoted substitution": '"$(touch PWNED)"',
    "ifs": ";touch${IFS}PWNED",
    "ifs without braces": ";touch$IFS$9PWNED",
    "ansi quote": "$'\\ntouch PWNED\\n'",
    "printf": "%s%n%x %(touch PWNED)s",
    "percent": "100%",
    "format field": "{x}",
    "format escape": "{{x}} }{",
    "format attribute": "{0.__class__.__init__.__globals__}",
    "other parameter": "{budget} {benchmark}",
    "jinja": "{{ self.__init__.__globals__.__builtins__ }} {% raw %}",
    "dollar braces": "${{ touch PWNED }} ${PATH} ${HOME:-x}",
    "flag": "--help",
    "flag with value": "--output=PWNED",
    "short flag": "-rf",
    "double dash": "--",
    "parent folder": "../../PWNED",
    "absolute path": "/tmp/PWNED-elsewhere/../x",
    "home": "~/PWNED ~root",
    "globs": "* ?? [a-z] {a,b}",
    "bell and escape": "a\x07b\x1b[31mred\x1b]0;title\x07",
    "backspace": "a\x08\x7fb",
    "unicode quotes": "\u2018\u2019\u201c\u201d; touch PWNED",
    "unicode line break": "a\u2028touch PWNED\u2029b\u0085c",
    "right to left": "\u202egnp.exe",
    "full-width digits": "\uff11\u00b2",
    "escaped line break": "a\\ntouch PWNED",
    "continuation": "a \\\ntouch PWNED",
    "file substitution": "$(</etc/hostname)",
    "process substitution": "<(touch PWNED)",
    "redirect": "> PWNED",
    "append": ">>PWNED 2>&1",
    "here document": "<<END\n$(touch PWNED)\nEND",
    "comment": "x # y",
    "leading comment": "#SBATCH --output=PWNED",
    "history": "!! !touch",
    "assignment": "PWNED=1 touch PWNED",
    "function": "() { :; }; touch PWNED",
    "arithmetic": "$((1+1)) $[$(touch PWNED)]",
    "yaml tag": "!!python/object/apply:os.system ['touch PWNED']",
    "yaml anchor": "&a [*a]",
    "json": '{"a": "\\u0027"}',
    "sql": "'; DROP TABLE runs; --",
    "markup": "<script>window.pwned=1</script>",
    "spaces": "  a  b  ",
    "backslash": "\\",
}


def assert_nothing_ran(folder: Path) -> None:
    """Make sure that no string was run: each would make a file of one name somewhere in the folder."""
    found = [Path(where) / name for where, _, names in os.walk(folder) for name in names if name.startswith(MARK)]
    assert found == []
