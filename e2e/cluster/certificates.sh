# shellcheck shell=bash disable=SC2154
# Keys, certificates and kubeconfigs of one cluster; sourced by node.sh after lib.sh and `locate`. They live as
# long as the cluster's folder, so nothing here is worth protecting beyond the folder's own mode.

new_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }

new_authority() {
  new_key "$1"
  openssl req -x509 -new -key "$1.key" -subj "/CN=$1" -days 30 -out "$1.crt"
}

# new_certificate NAME SUBJECT AUTHORITY [ALTERNATIVE_NAMES]
new_certificate() {
  local extensions="extendedKeyUsage=serverAuth,clientAuth"
  [ -z "${4:-}" ] || extensions+=$'\n'"subjectAltName=$4"
  new_key "$1"
  openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
  openssl x509 -req -in "$1.csr" -CA "$3.crt" -CAkey "$3.key" -CAcreateserial -days 30 -out "$1.crt" \
    -extfile <(echo "$extensions") 2>/dev/null
}

# new_kubeconfig FILE CERTIFICATE: everything in one file, so that it can be copied anywhere.
new_kubeconfig() {
  cat >"$1" <<EOF
apiVersion: v1
kind: Config
current-context: smallest
clusters:
- name: smallest
  cluster:
    server: https://$node_ip:6443
    certificate-authority-data: $(base64 -w0 ca.crt)
users:
- name: smallest
  user:
    client-certificate-data: $(base64 -w0 "$2.crt")
    client-key-data: $(base64 -w0 "$2.key")
contexts:
- name: smallest
  context: {cluster: smallest, user: smallest}
EOF
}

# In a subshell, for it changes the folder.
make_certificates() (
  cd "$run/pki" || exit
  new_authority ca
  new_authority front-proxy-ca # vouches for the apiserver when it passes a request on to an aggregated API
  names="IP:$node_ip,IP:127.0.0.1,IP:$apiserver_service_ip,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default"
  names+=",DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
  new_certificate apiserver /CN=kube-apiserver ca "$names"
  new_certificate kubelet-server "/CN=$node_name" ca "IP:$node_ip,DNS:$node_name"
  new_certificate admin /O=system:masters/CN=admin ca
  new_certificate apiserver-kubelet /O=system:masters/CN=kube-apiserver-kubelet-client ca
  new_certificate front-proxy /CN=front-proxy-client front-proxy-ca
  new_certificate kubelet "/O=system:nodes/CN=system:node:$node_name" ca
  for program in kube-controller-manager kube-scheduler kube-proxy; do
    new_certificate "$program" "/CN=system:$program" ca
  done
  openssl genrsa -out service-accounts.key 2048 2>/dev/null
  openssl rsa -in service-accounts.key -pubout -out service-accounts.pub 2>/dev/null
  for program in kubelet kube-controller-manager kube-scheduler kube-proxy; do
    new_kubeconfig "$run/$program.kubeconfig" "$program"
  done
  new_kubeconfig "$kubeconfig" admin
)
