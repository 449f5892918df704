package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest/program"
)

const (
	pullTimeout   = 3 * time.Minute
	unpackTimeout = 10 * time.Minute
)

// servers finds the servers of the tests, reports which it chose, and returns the
// variables that name them. One that is nowhere is an error, unless the tests that
// need it may be skipped.
func servers(ctx context.Context, w io.Writer, allowSkips bool) (env []string, err error) {
	if url := os.Getenv("LIFEGUARD_REDIS_URL"); url != "" {
		v, err := versionAt(ctx, url)
		if err != nil {
			return nil, fmt.Errorf("LIFEGUARD_REDIS_URL: %w", err)
		}
		say(w, "shared server", v, "LIFEGUARD_REDIS_URL")
	}
	for _, p := range program.All {
		path, from, err := find(ctx, w, p)
		if err != nil && (!allowSkips || os.Getenv(p.Env) != "") {
			return nil, fmt.Errorf("no %s: %w", p.Name, err)
		}
		if err != nil {
			fmt.Fprintf(w, "no %s: %v\n", p.Name, err)
			continue
		}
		v, err := versionOf(ctx, path)
		if err != nil {
			return nil, fmt.Errorf("%s from %s: %w", p.Name, from, err)
		}
		say(w, p.Name, v, from)
		env = append(env, p.Env+"="+path)
	}
	return env, nil
}

func say(w io.Writer, what, version, from string) {
	fmt.Fprintf(w, "%s: %s, from %s\n", what, version, from)
	if what != "valkey-server" && older(version, 8) {
		fmt.Fprintf(w, "NOTE: this Redis is older than 8; the few tests that need Redis 8 fail. Set LIFEGUARD_REDIS_BIN to a newer one\n")
	}
}

// find is a program: that of the variable, on PATH, of a container image, or out
// of the distribution's packages.
func find(ctx context.Context, w io.Writer, p program.Program) (path, from string, err error) {
	if path, err := p.Chosen(); path != "" || err != nil {
		return path, p.Env, err
	}
	if path, err := exec.LookPath(p.Name); err == nil {
		return path, "PATH", nil
	}
	if runtime.GOOS == "darwin" {
		return "", "", fmt.Errorf("not on PATH: brew install %s, or set %s", strings.TrimSuffix(p.Name, "-server"), p.Env)
	}
	if runtime.GOOS != "linux" {
		return "", "", fmt.Errorf("not on PATH: install it, or set %s", p.Env)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", "", err
	}
	cache = filepath.Join(cache, "lifeguard")
	if path, from, err = imageProgram(ctx, w, cache, p); err == nil {
		return path, from, nil
	}
	path, packageErr := packageProgram(ctx, w, cache, p)
	if packageErr != nil {
		return "", "", fmt.Errorf("not on PATH; %w; %w: install it, or set %s", err, packageErr, p.Env)
	}
	return path, "the distribution's packages, unpacked in " + cache, nil
}

// packageProgram unpacks it from the distribution's packages, without root.
func packageProgram(ctx context.Context, w io.Writer, cache string, p program.Program) (string, error) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return "", errors.New("no apt-get to get a package with")
	}
	dir := filepath.Join(cache, "packages")
	path := filepath.Join(dir, "bin", p.Name)
	if _, err := os.Stat(path); err != nil {
		fmt.Fprintf(w, "%s: unpacking the distribution's package in %s\n", p.Name, dir)
	}
	ctx, cancel := context.WithTimeout(ctx, unpackTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, ".ci/get-redis.sh", dir).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf(".ci/get-redis.sh: %w: %s", err, lastLine(out))
	}
	return path, nil
}

// imageProgram takes it out of the container image that the tests use, with the
// libraries it needs: most tests start servers of their own.
func imageProgram(ctx context.Context, w io.Writer, cache string, p program.Program) (path, from string, err error) {
	if os.Getenv("LIFEGUARD_NO_CONTAINER") == "true" {
		return "", "", errors.New("containers are turned off by LIFEGUARD_NO_CONTAINER")
	}
	image := cmp.Or(os.Getenv("LIFEGUARD_REDIS_IMAGE"), "redis:8")
	if p.Name == "valkey-server" {
		image = "valkey/valkey:8"
	}
	for _, engine := range []string{"docker", "podman"} {
		if path, err = unpackImage(ctx, w, engine, image, cache, p); err == nil {
			return path, "image " + image + ", by " + engine, nil
		}
	}
	return "", "", fmt.Errorf("no container engine has it (%w)", err)
}

func unpackImage(ctx context.Context, w io.Writer, engine, image, cache string, p program.Program) (string, error) {
	command := func(limit time.Duration, args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("%s %s: %w: %s", args[0], args[1], err, lastLine(out))
		}
		return lastLine(out), nil
	}
	if _, err := command(10*time.Second, engine, "info"); err != nil {
		return "", err
	}
	if _, err := command(10*time.Second, engine, "image", "inspect", image); err != nil {
		fmt.Fprintf(w, "%s: %s pull %s\n", p.Name, engine, image)
		if _, err := command(pullTimeout, engine, "pull", "-q", image); err != nil {
			return "", err
		}
	}
	id, err := command(10*time.Second, engine, "image", "inspect", "-f", "{{.Id}}", image)
	if err != nil {
		return "", err
	}
	id = strings.TrimPrefix(id, "sha256:")
	dir := filepath.Join(cache, "image-"+id[:min(12, len(id))])
	wrapper := filepath.Join(dir, p.Name)
	if _, err := os.Stat(wrapper); err == nil {
		return wrapper, nil
	}
	if err := os.MkdirAll(filepath.Join(dir, "root"), 0o755); err != nil {
		return "", err
	}
	const unpack = `set -e
id=$("$1" create "$2")
trap '"$1" rm "$id" >/dev/null' EXIT
"$1" export "$id" | tar -C "$3" -x --no-same-owner --exclude='dev/*'`
	root := filepath.Join(dir, "root")
	if _, err := command(pullTimeout, "sh", "-c", unpack, "unpack", engine, image, root); err != nil {
		return "", err
	}
	return wrapper, wrap(root, wrapper, p.Name)
}

// wrap writes a script that starts the program with the libraries of its own root.
func wrap(root, wrapper, name string) error {
	program := one(root, "usr/local/bin/"+name, "usr/bin/"+name)
	loader := one(root, "lib*/ld-linux*.so.*", "usr/lib*/ld-linux*.so.*", "lib/*/ld-linux*.so.*", "usr/lib/*/ld-linux*.so.*")
	libc := one(root, "lib/*/libc.so.6", "usr/lib/*/libc.so.6", "lib64/libc.so.6", "usr/lib64/libc.so.6")
	if program == "" || loader == "" || libc == "" {
		return fmt.Errorf("the image has no %s, or not the C library of GNU", name)
	}
	libraries := filepath.Dir(libc) + ":" + filepath.Join(root, "usr/local/lib")
	if dir := filepath.Base(filepath.Dir(libc)); strings.HasSuffix(dir, "-linux-gnu") {
		libraries += ":" + filepath.Join(root, "usr/lib", dir)
	}
	script := fmt.Sprintf("#!/bin/sh\nexec '%s' --library-path '%s' '%s' \"$@\"\n", loader, libraries, program)
	return os.WriteFile(wrapper, []byte(script), 0o755)
}

// one is the first file in root that matches a pattern.
func one(root string, patterns ...string) string {
	for _, p := range patterns {
		if files, _ := filepath.Glob(filepath.Join(root, p)); len(files) > 0 {
			return files[0]
		}
	}
	return ""
}

var versionInText = regexp.MustCompile(`\bv=(\d[\w.-]*)`)

func versionOf(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("--version: %w: %s", err, lastLine(out))
	}
	m := versionInText.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("--version says %q: not a server", lastLine(out))
	}
	return string(m[1]), nil
}

func versionAt(ctx context.Context, url string) (string, error) {
	opt, err := redis.ParseURL(url)
	if err != nil {
		return "", errors.New("not the URL of a server (redis://host:port)") // the URL may have a password
	}
	opt.MaxRetries, opt.DialerRetries = -1, 1
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c := redis.NewClient(opt)
	defer c.Close()
	info, err := c.InfoMap(ctx, "server").Result()
	if err != nil {
		return "", fmt.Errorf("no answer from %s: %w", opt.Addr, err)
	}
	server := info["Server"]
	return cmp.Or(server["redis_version"], server["valkey_version"], "unknown version"), nil
}

// older reports whether a version is known to be older than a major one.
func older(version string, major int) bool {
	var n int
	_, err := fmt.Sscanf(version, "%d", &n)
	return err == nil && n < major
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}
