// Istio's own istio-iptables. Its module has the command but no program of that name: in an image
// of Istio it is a verb of pilot-agent.
package main

import (
	"os"

	"istio.io/istio/pkg/log"
	"istio.io/istio/tools/istio-iptables/pkg/cmd"
)

func main() {
	options := log.DefaultOptions()
	command := cmd.GetCommand(options)
	options.AttachCobraFlags(command)
	if err := command.Execute(); err != nil {
		os.Exit(1)
	}
}
