// Command dns is CoreDNS with the few plug-ins that answer for a cluster's service names.
package main

// The whole of CoreDNS brings the clients of three clouds, which take longer to compile than all else.
import (
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
)

func main() {
	coremain.Run()
}
