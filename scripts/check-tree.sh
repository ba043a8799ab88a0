#!/usr/bin/env bash
# Checks how the code is laid out and worded:
#
#     scripts/check-tree.sh
#
# What it checks  1. No modules import each other in a loop (check-imports.py).
#                 2. No file of code has more than 500 lines. Tests, benchmarks and data files are left out.
#                 3. docs/logging.md has every line that is logged, and no other (check-log-lines.py).
#                 4. Words that the project gave up for the field's own are absent from code, scripts and documents.
# What it needs   git, python3.
# What it returns 0 if all hold; 1 if not, and every place that does not.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
readonly MAX_LINES=500
status=0

python3 scripts/check-imports.py || status=1

while read -r lines file; do
    printf 'check-tree: %s has %s lines; at most %s\n' "$file" "$lines" "$MAX_LINES"
    status=1
done < <(git ls-files -z 'crates/*/src/*.rs' 'crates/*/src/*.lua' 'tests/*/src/*.rs' 'scripts/*' ':!*_tests.rs' ':!*/tests.rs' |
    xargs -0 wc -l | awk -v max="$MAX_LINES" '$1 > max && $2 != "total"')

# Each line: a pattern of what was said before, and the word for it now.
readonly OLD_WORDS='
give_back|[Gg]iv(e|es|en|ing) (it |them |its leases |their leases )?back  =>  release
\b[Uu]nheard\b  =>  OutcomeUnknown
\b[Uu]nwell\b  =>  HealthError
\b[Hh]eirs?\b  =>  successor
\b[Bb]ur(y|ies|ied|ying)\b  =>  dead-letter
\b[Ss]trangers?\b  =>  others
\bcompany\(|company_of  =>  batch limit
\b[Ss]pent\b  =>  exhausted
\bbell\b|\brings? again\b|\b(One|one|a|the) ring\b  =>  wakeup
\b[Ww]ithdr(a|e)w(s|n|ing|als?)?\b  =>  rollback
\b[Ss]ettle[sd]?\b|\bsettling\b  =>  reconcile
\b[Vv]oices?\b  =>  owner, passage
\blanes?\b  =>  consumer loop
\b(Asked|Met|Covers)\b  =>  ParsedQuestion, MatchCache, Coverage
\bPATIENCE\b|\b[Pp]atien(t|ce)\b  =>  a timeout, by what it bounds
\bLOOK\b  =>  an interval, by what it spaces
'
while IFS= read -r entry; do
    [[ -n $entry ]] || continue
    if git grep -nP "${entry%  =>  *}" -- '*.rs' '*.lua' '*.py' '*.sh' '*.md' '*.envsh' '*.template' '*.yml' \
        ':!scripts/check-tree.sh' ':!docs/decisions' ':!CHANGELOG.md'; then
        printf 'check-tree: these say what is called now: %s\n' "${entry##*  =>  }"
        status=1
    fi
done <<<"$OLD_WORDS"

scripts/check-log-lines.py || status=1

[[ $status != 0 ]] || echo 'check-tree: no loops, no long files, no old words'
exit $status
