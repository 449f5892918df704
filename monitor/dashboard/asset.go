package dashboard

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"strings"
	"sync"
)

//go:embed assets
var files embed.FS

// scripts are served as one, in this order, in a scope of their own.
var scripts = []string{"theme", "format", "series", "chart", "table", "alert", "pools", "tabs", "stream", "keys", "page"}

// asset is a file that the page loads. It never changes: its URL contains its hash.
type asset struct {
	kind         string
	plain, small []byte // small: gzip
	hash         string
}

// assets are created at the first request for one.
var assets = sync.OnceValue(func() map[string]*asset {
	var js bytes.Buffer
	js.WriteString("(() => {\n'use strict';\n")
	for _, name := range scripts {
		js.Write(read("js/" + name + ".js"))
	}
	js.WriteString("})();\n")
	return map[string]*asset{
		"page.js":       newAsset("text/javascript; charset=utf-8", js.Bytes()),
		"page.css":      newAsset("text/css; charset=utf-8", read("page.css")),
		"icon.svg":      newAsset("image/svg+xml", read("icon.svg")),
		"uplot.js":      newAsset("text/javascript; charset=utf-8", read("uplot/uplot.js")),
		"uplot.css":     newAsset("text/css; charset=utf-8", read("uplot/uplot.css")),
		"uplot-license": newAsset("text/plain; charset=utf-8", read("uplot/LICENSE")),
	}
})

func read(name string) []byte {
	b, err := fs.ReadFile(files, "assets/"+name)
	if err != nil {
		panic("lifeguard/dashboard: " + err.Error()) // it is embedded: not possible
	}
	return b
}

func newAsset(kind string, plain []byte) *asset {
	var small bytes.Buffer
	z, _ := gzip.NewWriterLevel(&small, gzip.BestCompression) // the level is valid
	_, _ = z.Write(plain)
	_ = z.Close()
	return &asset{kind: kind, plain: plain, small: small.Bytes(), hash: fmt.Sprintf("%x", sha256.Sum256(plain))[:12]}
}

func (a *asset) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("Vary", "Accept-Encoding")
	h.Set("Cache-Control", "no-cache")
	if r.URL.Query().Get("v") == a.hash {
		h.Set("Cache-Control", "private, max-age=31536000, immutable")
	}
	body := a.plain
	if acceptsGzip(r) {
		h.Set("Content-Encoding", "gzip")
		body = a.small
	}
	_, _ = w.Write(body)
}

func acceptsGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, q, _ := strings.Cut(strings.TrimSpace(part), ";")
		if name == "gzip" && strings.TrimLeft(strings.TrimPrefix(strings.TrimSpace(q), "q="), "0.") != "" {
			return true
		}
		if name == "gzip" && q == "" {
			return true
		}
	}
	return false
}

// pageOf makes the page itself. What the script needs to know comes with the stream.
func pageOf(s *settings) ([]byte, error) {
	t, err := template.New("page").Funcs(template.FuncMap{
		"asset": func(name string) template.URL { return template.URL("?get=" + name + "&v=" + assets()[name].hash) },
	}).Parse(string(read("page.html")))
	if err != nil {
		return nil, fmt.Errorf("lifeguard/dashboard: page: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, map[string]any{"Title": s.title, "Actions": s.actions}); err != nil {
		return nil, fmt.Errorf("lifeguard/dashboard: page: %w", err)
	}
	return b.Bytes(), nil
}
