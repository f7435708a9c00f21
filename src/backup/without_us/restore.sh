#!/usr/bin/env bash
# Restores a tenant from its tenantd repository without tenantd; RESTORE.md, beside this file, tells how.
# It needs age, zstd, jq, ssh-keygen and the usual GNU tools; setfattr too where files have attributes.
# Signatures are checked before anything is believed, and hashes before anything is decrypted.
set -euo pipefail; export LC_ALL=C id=; umask 077
die() { printf 'restore.sh: %s\n' "$*" >&2; exit 1; }
[ $# -ge 4 ] || die 'usage: restore.sh REPOSITORY ROOT.pub IDENTITY TARGET [COMMIT]'
repo=$(realpath -e "$1") root=$(realpath -e "$2") identity=$(realpath -e "$3") target=$(realpath -m "$4") wanted=${5:-}
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT && cd "$work"
has_digest() { [ "$(sha256sum < "$1" | cut -c1-64)" = "$2" ]; }
decrypt() { has_digest "$1" "${1##*/}" || die "$1 is not what was signed"; age -d -i identities "$1"; }
is_signed() { # COMMIT: a node signed it whose key the root key certified; leaves `payload` and `node`
  local file=$repo/commits/$1
  [[ $1 =~ ^[0-9]{10}-[0-9]{10}-[0-9a-f]{64}$ ]] && has_digest "$file" "${1##*-}" || return 1
  sed -n 1p "$file" > payload; sed -n '2,/^-----END SSH/p' "$file" > payload.sig
  sed '1,/^-----END SSH/d' "$file" > rest; sed -n 1p rest > node; sed 1d rest > node.sig
  echo "root namespaces=\"tenantd-node@v1\" $(cut -d' ' -f1,2 "$root")" > allowed
  ssh-keygen -Y verify -f allowed -I root -n tenantd-node@v1 -s node.sig < node &> /dev/null || return 1
  echo "node namespaces=\"tenantd-commit@v1\" $(jq -r .key node)" > allowed
  ssh-keygen -Y verify -f allowed -I node -n tenantd-commit@v1 -s payload.sig < payload &> /dev/null || return 1
  jq -es --arg name "$1" '.[0] as $c | ($name | split("-") | map(tonumber? // .)[0:2]) == [$c.epoch, $c.sequence]
    and $c.format == "tenantd-commit" and .[1].epoch == $c.epoch' payload node > /dev/null || return 1
  [ "$(jq .version payload)" = 3 ] || die "$1 is signed and of another version: take the restore.sh of a newer tenantd"
}
commit=
while read -r name; do # the highest epoch, in it the highest sequence
  [ "$name" = "${wanted:-$name}" ] || continue; [ -z "$commit" ] || [ "${name%-*}" = "${commit%-*}" ] || break
  if ! is_signed "$name"; then echo "passed over: commit $name is not signed as it must be" >&2; continue; fi
  [ -z "$commit" ] || die "two commits claim to be the newest, name one of them: $commit, $name"
  commit=$name; mv payload chosen
done < <(ls -r "$repo/commits")
[ -n "$commit" ] && id=$(jq -r .repository chosen) || die 'no commit is signed by a node that this root key certified'
for key in "$repo"/keys/*.age; do # anyone can add one of these: a wrong one decrypts nothing
  { age -d -i "$identity" "$key" 2> /dev/null ||:; } | jq -r 'select(.repository == $ENV.id and .version == 3).identity'
done > identities
[ -s identities ] || die 'this identity opens none of the keys'
jq -r '.tree[].sha256' chosen | while read -r part; do decrypt "$repo/trees/$part" | zstd -dcq; done > tree
head -n 1 tree | jq -e '.repository == $ENV.id and .version == 3' > /dev/null || die 'the tree is of another repository'
# Paths have no tab or newline, for they are escaped. One line for each entry, and one for each run of chunks.
sed 1d tree | jq -rn 'def meta: [.mode, .uid, .gid, .mtime];
  foreach inputs as $l ({}; (if $l.type == "file" then .path = $l.path | .at = 0 else . end) | .runs = []
    | reduce ($l.chunks // [])[] as [$pack, $from, $stored, $length, $id, $skip, $take] (.; .runs[-1] as $r
        | if $pack == "hole" then .at += $from
        elif $take then .runs += [[$pack, $from, $stored, .at, $skip, $take, true]] | .at += $take
        elif $r[0] == $pack and $r[1] + $r[2] == $from and $r[3] + $r[5] == .at and ($r[6] | not)
        then .runs[-1][2] += $stored | .runs[-1][5] += $length | .at += $length
        else .runs += [[$pack, $from, $stored, .at, 0, $length, false]] | .at += $length end);
    ($l | if .type == "directory" then ["d", .path] + meta elif .type == "file" then ["f", .path] + meta + [.size]
      elif .type == "symlink" then ["s", .path] + meta + [.target] elif .type == "hardlink" then ["h", .path, .target]
      elif .type == "chunks" then empty else error("unknown type \(.type)") end),
    (.path as $path | .runs[] | ["w", $path] + .),
    ($l | (.xattrs // {}) | to_entries[] | ["x", $l.path, (.key | @uri), .value])
  ) | map(tostring) | join("\t")' > plan
plain() { printf -v REPLY %b "${1//%/\\x}"; }
place() { plain "$1"; REPLY=./$REPLY; case $REPLY/ in */../* | *//*) die "$1 leads out of the target";; esac; }
each() { grep "^$1" "$work/plan" || true; }
give() { # PATH MODE UID GID MTIME
  [ "$EUID" != 0 ] || chown -h "$3:$4" "$1"; [ -L "$1" ] || chmod "$(printf %05o "$2")" "$1"; touch -h -d "@$5" "$1"
}
mkdir "$target" && cd "$target" || die "a restore goes into a new directory"
while IFS=$'\t' read -r _ path _; do [ "$path" = . ] || { place "$path"; mkdir "$REPLY"; }; done < <(each d)
while IFS=$'\t' read -r _ path _ _ _ _ size; do place "$path"; truncate -s "$size" "$REPLY"; done < <(each f)
copy() { dd bs=1M iflag=skip_bytes,count_bytes oflag=seek_bytes conv=notrunc status=none "$@"; }
while IFS=$'\t' read -r _ path pack from stored at skip take _; do # many small files are in one chunk
  place "$path"; [ "$pack" = "${open:-}" ] || { (cd "$work" && decrypt "$repo/packs/$pack" > pack); open=$pack run=; }
  [ "$from+$stored" = "$run" ] || copy if="$work/pack" skip="$from" count="$stored" | zstd -dcq > "$work/run"
  copy if="$work/run" skip="$skip" count="$take" of="$REPLY" seek="$at"; run=$from+$stored
done < <(each w | sort -s -t $'\t' -k 3,3)
while IFS=$'\t' read -r _ path name value; do
  place "$path"; path=$REPLY; plain "$name"; setfattr -n "$REPLY" -v "0s$value" "$path"
done < <(! command -v setfattr > /dev/null || each x)
while IFS=$'\t' read -r _ path mode uid gid mtime _; do # without setuid and setgid bits, as tenantd does
  place "$path"; give "$REPLY" $((mode & 01777)) "$uid" "$gid" "$mtime"
done < <(each f)
while IFS=$'\t' read -r _ path old; do place "$old"; old=$REPLY; place "$path"; ln "$old" "$REPLY"; done < <(each h)
while IFS=$'\t' read -r _ path mode uid gid mtime old; do # after all else, so that nothing is ever written through one
  plain "$old"; old=$REPLY; place "$path"; ln -sT -- "$old" "$REPLY"; give "$REPLY" "$mode" "$uid" "$gid" "$mtime"
done < <(each s)
while IFS=$'\t' read -r _ path rest; do place "$path"; give "$REPLY" $rest; done < <(each d | tac)
echo "restored $commit into $target: $(head -n 1 "$work/tree" | jq -c .labels)"
