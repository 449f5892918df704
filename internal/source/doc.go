// Package source counts what a Monitor reports about a managed client, and hands it over.
package source
