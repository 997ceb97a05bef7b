#!/bin/sh
# Installs grape and grenache from a folder of built programs below a prefix, with their completions.
#
#   scripts/install.sh FOLDER PREFIX
set -eu
from=$1 to=$2
for name in grape grenache; do
    mkdir -p "$to/bin" "$to/share/bash-completion/completions" "$to/share/zsh/site-functions" \
        "$to/share/fish/vendor_completions.d"
    install -m 755 "$from/$name" "$to/bin/$name"
    complete() { "$to/bin/$name" --generate-completion-script "$1"; }
    complete bash >"$to/share/bash-completion/completions/$name"
    complete zsh >"$to/share/zsh/site-functions/_$name"
    complete fish >"$to/share/fish/vendor_completions.d/$name.fish"
    echo "$to/bin/$name"
done
