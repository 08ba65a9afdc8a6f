package picture

import (
	"fmt"
	"strings"
)

// laneColors are those of what two replicas do.
type laneColors struct {
	runs, runsText       string // a body
	returns, returnsText string // a body whose context has ended
	lost                 string // beats
}

// What is drawn of leases has its own width, for it has a line of time.
const (
	lanesWidth = 800
	lanesLeft  = 110 // of what stands right of the names of the replicas
	lanesRight = 784
	laneHeight = 36
)

// HandOver draws what happens when the holder of a lease is stopped, and the title of that.
func HandOver(theme Theme) (svg, title string) {
	const (
		stop, end, next = 330, 490, 545
		first, second   = 64, 132 // lanes
		top, bottom     = 24, 196
	)
	d := drawing{Theme: theme}
	d.mark(stop, top+20, first+laneHeight)
	d.mark(end, first, bottom-14)
	d.mark(next, first+laneHeight+12, bottom-14)
	d.lane("replica 1", first)
	d.bar(lanesLeft, stop, first, d.runs, d.runsText, "body runs, token 7")
	d.bar(stop, end, first, d.returns, d.returnsText, "body returns")
	d.lane("replica 2", second)
	d.bar(lanesLeft, next, second, d.code, d.muted, "waits for the lease, held by replica 1")
	d.bar(next, lanesRight, second, d.runs, d.runsText, "body runs, token 8")
	d.label(stop, top, "middle", "small", d.bright, "replica 1 is stopped:")
	d.label(stop, top+15, "middle", "small", d.text, "the body's context ends")
	d.label(end-6, bottom, "end", "small", d.bright, "the body has returned:")
	d.label(end-6, bottom+15, "end", "small", d.text, "the lease is released")
	d.label(next, bottom, "start", "small", d.bright, "milliseconds later:")
	d.label(next, bottom+15, "start", "small", d.text, "the next body begins")
	title = "A hand-over: replica 1 is stopped, its body returns, the lease is released, and milliseconds later the body of replica 2 begins"
	return d.lanes(title, bottom+15+margin), title
}

// Loss draws what happens when the holder of a lease does not reach the engine any more, and the title of that.
func Loss(theme Theme) (svg, title string) {
	const (
		// In seconds; the defaults.
		ttl, beat, drift, stopTimeout = 15.0, 3.0, 0.05, 5.0

		trust         = ttl * (1 - drift) / (1 + drift)
		begin, past   = -6.5, 20.2 // of the picture
		seen          = 0.25       // after which replica 2 sees a beat
		beats         = 32
		first, second = 64, 132
		bottom        = 196
	)
	at := func(seconds float64) int {
		return lanesLeft + int((seconds-begin)/(past-begin)*(lanesRight-lanesLeft)+0.5)
	}
	d := drawing{Theme: theme}
	d.mark(at(0), beats+5, bottom-14)
	d.mark(at(trust-stopTimeout), first, bottom-14)
	d.mark(at(trust), first, bottom-14)
	d.mark(at(ttl+seen), second, bottom-14)
	d.label(margin, beats+5, "start", "small", d.muted, "its beats")
	for s := -2 * beat; s < ttl; s += beat {
		if s <= 0 {
			fmt.Fprintf(&d.b, `<circle cx="%d" cy="%d" r="5" fill="%s"/>`+"\n", at(s), beats, d.runs)
		} else {
			d.label(at(s), beats+5, "middle", "bold", d.lost, "✕")
		}
	}
	d.label(at(0)+8, beats-12, "end", "small", d.bright, "the last confirmed beat")
	d.label(at(beat)-6, beats-12, "start", "small", d.lost, "replica 1 is cut off from the engine")
	d.lane("replica 1", first)
	d.bar(lanesLeft, at(trust-stopTimeout), first, d.runs, d.runsText, "body runs, token 7")
	d.bar(at(trust-stopTimeout), at(trust), first, d.returns, d.returnsText, "5 s to return")
	d.bar(at(trust), lanesRight, first, d.code, d.muted, "waits for the lease")
	d.lane("replica 2", second)
	d.bar(lanesLeft, at(ttl+seen), second, d.code, d.muted, "waits for the lease, held by replica 1")
	d.bar(at(ttl+seen), lanesRight, second, d.runs, d.runsText, "runs, token 8")
	for _, l := range []struct {
		x                  int
		anchor, time, what string
	}{
		{at(0), "middle", "0 s", "it was sent"},
		{at(trust - stopTimeout), "middle", fmt.Sprintf("%.2f s", trust-stopTimeout), "its context ends"},
		{at(trust) + 4, "end", fmt.Sprintf("%.2f s", trust), "trust ends"},
		{at(ttl + seen), "start", "15 s", "replica 2 begins"},
	} {
		d.label(l.x, bottom, l.anchor, "small bold", d.bright, l.time)
		d.label(l.x, bottom+15, l.anchor, "small", d.text, l.what)
	}
	title = fmt.Sprintf("A loss: replica 1 is cut off from the engine. %.2f s after its last confirmed beat was sent, the context of its body "+
		"ends; after %.2f s, that beat is not trusted any more; 15 s after replica 2 has seen it, the body of replica 2 begins",
		trust-stopTimeout, trust)
	return d.lanes(title, bottom+15+margin), title
}

// lane draws what is left of a lane: the name of a replica.
func (d *drawing) lane(name string, y int) {
	d.label(margin, y+laneHeight/2+5, "start", "bold", d.bright, name)
}

// bar draws what a replica does from x to end.
func (d *drawing) bar(x, end, y int, fill, color, text string) {
	stroke := d.background
	if fill == d.code {
		stroke = d.codeBorder
	}
	fmt.Fprintf(&d.b, `<rect x="%d" y="%d" width="%d" height="%d" rx="4" fill="%s" stroke="%s"/>`+"\n",
		x, y, end-x, laneHeight, fill, stroke)
	d.label((x+end)/2, y+laneHeight/2+5, "middle", "", color, text)
}

// mark draws a moment.
func (d *drawing) mark(x, y, end int) {
	fmt.Fprintf(&d.b, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="%s" stroke-dasharray="3 3"/>`+"\n", x, y, x, end, d.muted)
}

func (d *drawing) label(x, y int, anchor, class, color, text string) {
	fmt.Fprintf(&d.b, `<text x="%d" y="%d" text-anchor=%q class=%q fill=%q>%s</text>`+"\n", x, y, anchor, class, color, escape(text))
}

// lanes returns the picture.
func (d *drawing) lanes(title string, height int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img">`+"\n",
		lanesWidth, height, lanesWidth, height)
	fmt.Fprintf(&b, "<title>%s</title>\n", escape(title))
	fmt.Fprintf(&b, `<style>text{font-size:%dpx;font-family:"Noto Sans","Helvetica Neue",Helvetica,Arial,sans-serif}`+
		`.bold{font-weight:bold}.small{font-size:13px}</style>`+"\n", fontSize)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" rx="8" fill="%s"/>`+"\n", lanesWidth, height, d.background)
	b.WriteString(d.b.String())
	b.WriteString("</svg>\n")
	return b.String()
}
