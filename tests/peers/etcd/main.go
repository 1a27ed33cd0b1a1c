// etcd, the store of a Kubernetes API server. Its module is a library; the program lies in a
// module that the registry does not serve.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
