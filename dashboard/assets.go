package dashboard

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
)

//go:embed assets
var files embed.FS

// An asset is a file that pages refer to.
type asset struct {
	contentType string
	content     []byte
	version     string // of its content, which is a part of its address: so a browser may keep it
}

// assets are those that there are, by their names.
var assets = map[string]*asset{
	"style.css":   newAsset("text/css; charset=utf-8", "style.css", "pictures.css"),
	"script.js":   newAsset("text/javascript; charset=utf-8", "script.js"),
	"favicon.svg": newAsset("image/svg+xml", "favicon.svg"),
}

// newAsset reads an asset, which consists of some files.
func newAsset(contentType string, names ...string) *asset {
	a := &asset{contentType: contentType}
	for _, name := range names {
		content, err := files.ReadFile("assets/" + name)
		if err != nil {
			panic(err) // it is embedded above
		}
		a.content = append(a.content, content...)
	}
	sum := sha256.Sum256(a.content)
	a.version = hex.EncodeToString(sum[:6])
	return a
}

func (a *asset) serve(_ *dashboard, w http.ResponseWriter, r *http.Request) *problem {
	h := w.Header()
	h.Set("Content-Type", a.contentType)
	if r.URL.Query().Get("v") == a.version {
		h.Set("Cache-Control", "private, max-age=31536000, immutable")
	}
	_, _ = w.Write(a.content) // the client has gone, perhaps
	return nil
}
