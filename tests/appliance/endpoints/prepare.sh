# The Internet: a namespace with a provider at a public address, whose certificate is of an authority that the host trusts.
set -eu
cd "$(mktemp --directory --tmpdir=/dev/shm)"
key='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
openssl req -x509 $key -keyout ca.key -out ca.crt -days 30 -subj /CN=authority 2>/dev/null
openssl req $key -keyout key -out request -subj /CN=models.test 2>/dev/null
printf 'subjectAltName=DNS:models.test\nbasicConstraints=CA:FALSE\n' >extensions
openssl x509 -req -in request -CA ca.crt -CAkey ca.key -days 30 -extfile extensions -out crt 2>/dev/null
install -D -m 0644 ca.crt /usr/local/share/ca-certificates/test.crt
update-ca-certificates >/dev/null 2>&1
# With a final dot too: a name is looked up as a whole.
echo '93.184.215.14 models.test models.test.' >>/etc/hosts
ip netns add internet
ip link add to-internet type veth peer name inside netns internet
ip address add 93.184.215.1/24 dev to-internet
ip link set to-internet up
ip netns exec internet ip address add 93.184.215.14/24 dev inside
ip netns exec internet ip link set inside up
touch /dev/shm/asked
systemd-run --quiet --unit=provider ip netns exec internet \
    socat "OPENSSL-LISTEN:443,reuseaddr,fork,cert=$PWD/crt,key=$PWD/key,verify=0" EXEC:/root/provider.sh
