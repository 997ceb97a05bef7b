#!/bin/sh
# Builds the documentation of the libraries into .build/docs/Grenache.doccarchive. Warnings are errors; so
# are a public symbol without a comment and one that no topic of its library's page names.
#
# Needs no package: the symbols come from the built modules, the pages from docc, which is part of the
# toolchain. `Grenache` exports the modules below it, so all of them are documented, and link to each other.
set -eu
cd "$(dirname -- "$0")/.."
modules="Grenache GrenacheGrape GrenacheAccess GrenacheTLS GrenacheTransport GrenacheIO GrenacheFraming"
out=.build/docs
archive=$out/Grenache.doccarchive
rm -rf "$out"
mkdir -p "$out/symbols" "$out/Grenache.docc"

swift build --target GrenacheGrape
swift build --target Grenache
bin=$(swift build --show-bin-path)
triple=$(swift -print-target-info | sed -n 's/.*"unversionedTriple": "\(.*\)",/\1/p')

# A module for tests loads what it imports, C modules included.
set --
for map in "$bin"/C*.build/module.modulemap Sources/CSQLite/module.modulemap \
    .build/checkouts/Yams/Sources/CYaml/include/module.modulemap; do
    set -- "$@" -Xcc "-fmodule-map-file=$map"
done
for module in $modules; do
    swift symbolgraph-extract -module-name "$module" -target "$triple" -I "$bin/Modules" "$@" \
        -minimum-access-level public -skip-synthesized-members -output-dir "$out/symbols"
done

# One set of pages for all libraries: only so can they link to each other.
for module in $modules; do
    [ ! -d "Sources/$module/$module.docc" ] || cp -R "Sources/$module/$module.docc/." "$out/Grenache.docc"
done
docc convert "$out/Grenache.docc" --additional-symbol-graph-dir "$out/symbols" \
    --output-dir "$archive" --warnings-as-errors \
    --experimental-documentation-coverage \
    --fallback-display-name Grenache --fallback-bundle-identifier grenache-swift >"$out/docc.log" 2>&1 || {
    cat "$out/docc.log" >&2
    exit 1
}

python3 - "$archive" $modules <<'PYTHON'
import json, sys
archive, modules = sys.argv[1], sys.argv[2:]
symbols = json.load(open(archive + "/documentation-coverage.json"))
faults = [
    "no comment: " + symbol["referencePath"].split("/documentation/")[-1]
    for symbol in symbols
    if not symbol["hasAbstract"] and symbol["kind"]["isSymbol"]
    and not symbol["referencePath"].endswith("/init(rawValue:)")  # the compiler's own
]
for module in modules:
    page = json.load(open(f"{archive}/data/documentation/{module.lower()}.json"))
    for section in page.get("topicSections", []):
        if section.get("generated"):
            faults += ["in no topic: " + identifier.split("/documentation/")[-1]
                       for identifier in section["identifiers"]]
for fault in sorted(faults):
    print("docs: " + fault, file=sys.stderr)
sys.exit(1 if faults else 0)
PYTHON
rm -f "$archive/documentation-coverage.json"
echo "$archive: look at it with  python3 -m http.server -d $archive 8000"
echo "and http://localhost:8000/documentation/grenache"
