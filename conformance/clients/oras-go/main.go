// Command oras-go does what the oras command line does, on the same library, so that the oras client is tested where its
// command line cannot be had. Every subcommand prints what a script compares: digests, one a line.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/file"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/retry"
)

const usage = `usage:
  oras-go push     [-artifact-type T] HOST/REPO:TAG FILE[:MEDIATYPE]...   prints the manifest's digest
  oras-go pull     [-o DIR] HOST/REPO:TAG|@DIGEST                         prints the manifest's digest
  oras-go copy     [-r] FROM TO                                           prints the digest; -r brings the referrers too
  oras-go attach   -artifact-type T SUBJECT FILE[:MEDIATYPE]...           prints the referrer's digest
  oras-go discover [-artifact-type T] SUBJECT                             prints "DIGEST ARTIFACT-TYPE" a line
  oras-go login    HOST USER                                              reads the password from its input
  oras-go logout   HOST
All of it over plain HTTP, with the log-ins of docker's configuration file.`

type command struct {
	artifactType string
	output       string
	recursive    bool
	args         []string
}

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "oras-go:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("a subcommand is missing\n%s", usage)
	}
	var c command
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.StringVar(&c.artifactType, "artifact-type", "", "artifact type to write or to filter by")
	flags.StringVar(&c.output, "o", ".", "folder to pull into")
	flags.BoolVar(&c.recursive, "r", false, "copy referrers too")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	c.args = flags.Args()
	verbs := map[string]func(context.Context, command) error{
		"push": push, "pull": pull, "copy": copyArtifact, "attach": attach, "discover": discover,
		"login": login, "logout": logout,
	}
	verb, known := verbs[args[0]]
	wanted := map[string]int{"push": 2, "pull": 1, "copy": 2, "attach": 2, "discover": 1, "login": 2, "logout": 1}
	if !known || len(c.args) < wanted[args[0]] {
		return fmt.Errorf("bad arguments: %s\n%s", strings.Join(args, " "), usage)
	}
	return verb(ctx, c)
}

// push packs the files as the oras command line does: a file store is the source, the registry the target of a copy.
func push(ctx context.Context, c command) error {
	repo, reference, err := repository(c.args[0])
	if err != nil {
		return err
	}
	store, err := file.New("")
	if err != nil {
		return err
	}
	defer store.Close()
	layers, err := addFiles(ctx, store, c.args[1:])
	if err != nil {
		return err
	}
	options := oras.PackManifestOptions{Layers: layers}
	manifest, err := oras.PackManifest(ctx, store, oras.PackManifestVersion1_1, c.typeOr("application/vnd.unknown.artifact.v1"), options)
	if err != nil {
		return err
	}
	if err := store.Tag(ctx, manifest, reference); err != nil {
		return err
	}
	return printed(oras.Copy(ctx, store, reference, repo, reference, oras.DefaultCopyOptions))
}

func pull(ctx context.Context, c command) error {
	repo, reference, err := repository(c.args[0])
	if err != nil {
		return err
	}
	store, err := file.New(c.output)
	if err != nil {
		return err
	}
	defer store.Close()
	return printed(oras.Copy(ctx, repo, reference, store, "", oras.DefaultCopyOptions))
}

func copyArtifact(ctx context.Context, c command) error {
	from, fromReference, err := repository(c.args[0])
	if err != nil {
		return err
	}
	to, toReference, err := repository(c.args[1])
	if err != nil {
		return err
	}
	if c.recursive {
		return printed(oras.ExtendedCopy(ctx, from, fromReference, to, toReference, oras.DefaultExtendedCopyOptions))
	}
	return printed(oras.Copy(ctx, from, fromReference, to, toReference, oras.DefaultCopyOptions))
}

// attach pushes the files into the subject's repository and a manifest that names the subject.
func attach(ctx context.Context, c command) error {
	repo, reference, err := repository(c.args[0])
	if err != nil {
		return err
	}
	subject, err := repo.Resolve(ctx, reference)
	if err != nil {
		return err
	}
	store, err := file.New("")
	if err != nil {
		return err
	}
	defer store.Close()
	layers, err := addFiles(ctx, store, c.args[1:])
	if err != nil {
		return err
	}
	for _, layer := range layers {
		if err := oras.CopyGraph(ctx, store, repo, layer, oras.DefaultCopyGraphOptions); err != nil {
			return err
		}
	}
	options := oras.PackManifestOptions{Subject: &subject, Layers: layers}
	return printed(oras.PackManifest(ctx, repo, oras.PackManifestVersion1_1, c.artifactType, options))
}

func discover(ctx context.Context, c command) error {
	repo, reference, err := repository(c.args[0])
	if err != nil {
		return err
	}
	subject, err := repo.Resolve(ctx, reference)
	if err != nil {
		return err
	}
	return repo.Referrers(ctx, subject, c.artifactType, func(referrers []ocispec.Descriptor) error {
		for _, referrer := range referrers {
			fmt.Println(referrer.Digest, referrer.ArtifactType)
		}
		return nil
	})
}

func (c command) typeOr(fallback string) string {
	if c.artifactType == "" {
		return fallback
	}
	return c.artifactType
}

func repository(reference string) (*remote.Repository, string, error) {
	repo, err := remote.NewRepository(reference)
	if err != nil {
		return nil, "", err
	}
	repo.PlainHTTP = true
	logins, err := logins()
	if err != nil {
		return nil, "", err
	}
	repo.Client = &auth.Client{Client: retry.DefaultClient, Cache: auth.NewCache(), Credential: credentials.Credential(logins)}
	return repo, repo.Reference.ReferenceOrDefault(), nil
}

func logins() (credentials.Store, error) {
	return credentials.NewStoreFromDocker(credentials.StoreOptions{AllowPlaintextPut: true})
}

// login notes the credentials when the registry took them.
func login(ctx context.Context, c command) error {
	logins, err := logins()
	if err != nil {
		return err
	}
	registry, err := remote.NewRegistry(c.args[0])
	if err != nil {
		return err
	}
	registry.PlainHTTP = true
	password, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		return fmt.Errorf("a line with the password is missing: %w", err)
	}
	user := auth.Credential{Username: c.args[1], Password: strings.TrimSuffix(password, "\n")}
	return credentials.Login(ctx, logins, registry, user)
}

func logout(ctx context.Context, c command) error {
	logins, err := logins()
	if err != nil {
		return err
	}
	return credentials.Logout(ctx, logins, c.args[0])
}

// addFiles reads "FILE[:MEDIATYPE]" arguments into the store under their base names.
func addFiles(ctx context.Context, store *file.Store, arguments []string) ([]ocispec.Descriptor, error) {
	var layers []ocispec.Descriptor
	for _, argument := range arguments {
		path, mediaType, _ := strings.Cut(argument, ":")
		path, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		layer, err := store.Add(ctx, filepath.Base(path), mediaType, path)
		if err != nil {
			return nil, err
		}
		layers = append(layers, layer)
	}
	return layers, nil
}

func printed(manifest ocispec.Descriptor, err error) error {
	if err == nil {
		fmt.Println(manifest.Digest)
	}
	return err
}
