#!/bin/sh
# Is the package of this change better than the one in production? Run by the pipelines beside this file.
#
#   CANDIDATE   package folder of the change             (build it before: `hardcase export`)
#   REFERENCE   package folder that is in production
#   AUDITED     snapshot folder of random recent inputs with their truth
#   GOLDEN      snapshot folder that must not get worse  (may be empty)
#
# Exit status: 0 passed, 1 failed, 7 undecided (the labels cannot tell), 2 wrong arguments.
set -u
mkdir -p gate
set -- "$CANDIDATE" --reference "$REFERENCE" --audited "$AUDITED"
if [ -n "${GOLDEN:-}" ]; then set -- "$@" --golden "$GOLDEN"; fi
hardcase gate "$@" \
  --html gate/report.html --junit gate/junit.xml --openlineage gate/openlineage.json
