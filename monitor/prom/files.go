package prom

import (
	"bytes"
	_ "embed"
)

var (
	//go:embed dashboard.json
	dashboard []byte
	//go:embed rules.yml
	rules []byte
)

// Dashboard returns the JSON of a dashboard for Grafana, to import or to provision.
// It has variables for the data source, the instance, the client and the node.
func Dashboard() []byte { return bytes.Clone(dashboard) }

// Rules returns a file of alert rules for Prometheus, with the limits of a Monitor's default
// thresholds where these exist.
func Rules() []byte { return bytes.Clone(rules) }
