package prom

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/internal/export"
)

// Collector is a prometheus.Collector of a Monitor. It is safe for concurrent use.
type Collector struct {
	reader  *export.Reader
	descs   map[*export.Family]*prometheus.Desc
	order   []*prometheus.Desc
	buckets map[*export.Family][]time.Duration
}

var _ prometheus.Collector = (*Collector)(nil)

// NewCollector makes a Collector. client is the value of the label client: a name for the watched
// client, unique within a registry. It starts the Monitor, so that peaks and alerts cover its
// periods. A nil Monitor, an empty name, and invalid options are errors.
//
// Every scrape queries the Monitor's source twice: for a plain cluster client that is one CLUSTER
// SLOTS each.
func NewCollector(m *monitor.Monitor, client string, opts ...Option) (*Collector, error) {
	if client == "" || !utf8.ValidString(client) {
		return nil, fmt.Errorf("lifeguard/monitor/prom: NewCollector: the name of the client is %q: give one, of valid UTF-8", client)
	}
	s := settings{labels: prometheus.Labels{labelClient: client}}
	for _, o := range opts {
		if o == nil {
			return nil, errors.New("lifeguard/monitor/prom: NewCollector: an option is nil")
		}
		if err := o(&s); err != nil {
			return nil, fmt.Errorf("lifeguard/monitor/prom: %w", err)
		}
	}
	c := &Collector{descs: map[*export.Family]*prometheus.Desc{}, buckets: map[*export.Family][]time.Duration{}}
	for _, f := range export.Families() {
		d := prometheus.NewDesc(f.Prom, f.Help, labelNames(f), s.labels)
		c.descs[f] = d
		c.order = append(c.order, d)
		if f.Kind == export.Histogram {
			c.buckets[f] = s.bucketsOf(f)
		}
	}
	reader, err := export.New(m)
	if err != nil {
		return nil, fmt.Errorf("lifeguard/monitor/prom: NewCollector: %w", err)
	}
	c.reader = reader
	return c, nil
}

const (
	labelClient = "client"
	labelNode   = "node"
)

func labelNames(f *export.Family) []string {
	if !f.Node {
		return f.Labels
	}
	return append([]string{labelNode}, f.Labels...)
}

// Close detaches the Collector from the Monitor; closing the Monitor does that as well. It can
// still be scraped, but peaks between two scrapes may be missed. It returns nil.
func (c *Collector) Close() error {
	c.reader.Close()
	return nil
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.order {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	for _, p := range c.reader.Read() {
		ch <- c.metric(&p)
	}
}

func (c *Collector) metric(p *export.Point) prometheus.Metric {
	desc, ok := c.descs[p.Family]
	if !ok {
		return prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(errors.New("unknown")), fmt.Errorf("lifeguard/monitor/prom: %s has no description", p.Family.Prom))
	}
	labels := p.Labels
	if p.Family.Node {
		labels = append([]string{p.Node}, labels...)
	}
	var m prometheus.Metric
	var err error
	switch p.Family.Kind {
	case export.Histogram:
		m, err = prometheus.NewConstHistogram(desc, p.Dist.Count, p.Dist.Sum.Seconds(), cumulative(&p.Dist, c.buckets[p.Family]), labels...)
	case export.Counter:
		m, err = prometheus.NewConstMetric(desc, prometheus.CounterValue, p.Value, labels...)
	default:
		m, err = prometheus.NewConstMetric(desc, prometheus.GaugeValue, p.Value, labels...)
	}
	if err != nil {
		return prometheus.NewInvalidMetric(desc, err)
	}
	return m
}

func cumulative(d *monitor.Distribution, limits []time.Duration) map[float64]uint64 {
	b := make(map[float64]uint64, len(limits))
	for _, l := range limits {
		b[l.Seconds()] = d.Below(l)
	}
	return b
}

// reserved reports whether a metric may have a label of that name itself.
func reserved(name string) bool {
	if name == labelClient || name == labelNode || name == "le" || strings.HasPrefix(name, "__") {
		return true
	}
	for _, f := range export.Families() {
		for _, l := range f.Labels {
			if name == l {
				return true
			}
		}
	}
	return false
}
