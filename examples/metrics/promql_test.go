package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/hooktrust/hooktrust/middleware"
)

// exported is what newPrometheus exports: each series' labels by its name.
type exported map[string][]string

func allExported(t *testing.T) exported {
	t.Helper()
	reg := prometheus.NewRegistry()
	o, err := newPrometheus(reg, "haptik")
	require.NoError(t, err)
	for _, outcome := range outcomes(t) {
		res := middleware.Result{Sender: "haptik", Outcome: outcome}
		o(nil, res, outcome == middleware.LateDone)
	}
	families, err := reg.Gather()
	require.NoError(t, err)
	e := make(exported)
	for _, family := range families {
		names := []string{"job", "instance"} // Prometheus adds these
		for _, l := range family.GetMetric()[0].GetLabel() {
			names = append(names, l.GetName())
		}
		name := family.GetName()
		if family.GetType() == dto.MetricType_HISTOGRAM {
			e[name+"_sum"], e[name+"_count"] = names, names
			e[name+"_bucket"] = append(slices.Clone(names), "le")
			continue
		}
		e[name] = names
	}
	require.Len(t, e, 4+3*3)
	return e
}

// expression reads the part of PromQL that dashboard.json and alerts.yaml use,
// and refuses what it does not know: the real parser is in a module that
// needs a hundred others.
type expression struct {
	exported exported
	words    []string
	used     map[string]bool // metrics
	labels   map[string]bool // of the result, by aggregation; nil: any
}

var word = regexp.MustCompile(`\s+|"(?:[^"\\]|\\.)*"|\d+(?:ms|[smhdw])\b|\d+(?:\.\d+)?|[a-zA-Z_:$][a-zA-Z0-9_:]*|[=!]~|[=!<>]=|[-+*/%^<>=(){}\[\],]`)

// check parses text and returns the metrics that it reads and the labels that
// its result has.
func (e exported) check(text string) (used, labels map[string]bool, err error) {
	x := &expression{exported: e, used: make(map[string]bool), labels: make(map[string]bool)}
	for at := 0; at < len(text); {
		span := word.FindStringIndex(text[at:])
		if span == nil || span[0] != 0 {
			return nil, nil, fmt.Errorf("unreadable at %q", text[at:])
		}
		if w := strings.TrimSpace(text[at : at+span[1]]); w != "" {
			x.words = append(x.words, w)
		}
		at += span[1]
	}
	defer func() {
		if value := recover(); value != nil {
			used, labels, err = nil, nil, fmt.Errorf("%v", value)
		}
	}()
	x.binary()
	if len(x.words) > 0 {
		panic(fmt.Sprintf("%q is left over", x.words))
	}
	if len(x.used) == 0 {
		panic("no metric is read")
	}
	return x.used, x.labels, nil
}

func (x *expression) peek() string {
	if len(x.words) == 0 {
		return ""
	}
	return x.words[0]
}

func (x *expression) next() string {
	w := x.peek()
	if w == "" {
		panic("ends too early")
	}
	x.words = x.words[1:]
	return w
}

func (x *expression) want(w string) {
	if got := x.next(); got != w {
		panic(fmt.Sprintf("%q in place of %q", got, w))
	}
}

func (x *expression) binary() {
	x.operand()
	for slices.Contains([]string{"+", "-", "*", "/", ">", "<", ">=", "<=", "==", "!=", "and", "or", "unless"}, x.peek()) {
		x.next()
		x.operand()
	}
}

var (
	number     = regexp.MustCompile(`^\d+(\.\d+)?$`)
	length     = regexp.MustCompile(`^(\d+(ms|[smhdw])|\$__rate_interval|\$__range)$`)
	metricName = regexp.MustCompile(`^[a-z_]+$`)
	arguments  = map[string]string{ // n: number, i: instant vector, r: range vector
		"rate": "r", "increase": "r", "absent": "i", "histogram_quantile": "ni",
	}
)

func (x *expression) operand() {
	w := x.next()
	switch kinds, isFunction := arguments[w]; {
	case w == "(":
		x.binary()
		x.want(")")
	case number.MatchString(w):
	case w == "sum" || w == "max" || w == "min" || w == "count":
		x.want("by")
		by := x.names()
		x.want("(")
		before := maps.Clone(x.used)
		x.binary()
		x.want(")")
		for name := range x.used {
			for _, label := range by {
				if !before[name] && !slices.Contains(x.exported[name], label) {
					panic(fmt.Sprintf("%s has no label %q", name, label))
				}
			}
		}
		for _, label := range by {
			x.labels[label] = true
		}
	case isFunction:
		x.want("(")
		for i, kind := range kinds {
			if i > 0 {
				x.want(",")
			}
			switch kind {
			case 'n':
				if w := x.next(); !number.MatchString(w) {
					panic(w + " is no number")
				}
			case 'r':
				x.selector(x.next())
				x.want("[")
				if w := x.next(); !length.MatchString(w) {
					panic(w + " is no duration")
				}
				x.want("]")
			case 'i':
				x.binary()
			}
		}
		x.want(")")
	default:
		x.selector(w)
	}
}

// names reads labels in parentheses.
func (x *expression) names() (list []string) {
	x.want("(")
	for {
		list = append(list, x.next())
		if w := x.next(); w == ")" {
			return list
		} else if w != "," {
			panic(w + " between labels")
		}
	}
}

func (x *expression) selector(name string) {
	if !metricName.MatchString(name) || x.exported[name] == nil {
		panic(fmt.Sprintf("the program exports no metric %q", name))
	}
	x.used[name] = true
	if x.peek() != "{" {
		return
	}
	x.next()
	for {
		label := x.next()
		if !slices.Contains(x.exported[name], label) {
			panic(fmt.Sprintf("%s has no label %q", name, label))
		}
		op, value := x.next(), x.next()
		if !strings.HasPrefix(value, `"`) {
			panic(value + " is not quoted")
		}
		value = strings.Trim(value, `"`)
		switch op {
		case "=", "!=":
			x.known(label, value)
		case "=~", "!~":
			if value != "$sender" {
				for alternative := range strings.SplitSeq(value, "|") {
					x.known(label, alternative)
				}
			}
		default:
			panic(op + " between a label and its value")
		}
		if w := x.next(); w == "}" {
			return
		} else if w != "," {
			panic(w + " between labels")
		}
	}
}

// known panics unless label can have the value.
func (x *expression) known(label, value string) {
	var values []string
	switch label {
	case "outcome":
		for o := middleware.Outcome(0); o.String() != "unknown"; o++ {
			values = append(values, o.String())
		}
	case "status":
		values = []string{"1xx", "2xx", "3xx", "4xx", "5xx", "none"}
	case "key":
		values = []string{"0", "1", "2", "3", "4", "5", "6", "7", "none", "other"}
	case "reason":
		values = []string{reasonMissing, reasonMalformed, reasonMismatch, reasonOther}
	default:
		panic(label + " has no fixed values")
	}
	if !slices.Contains(values, value) {
		panic(fmt.Sprintf("%s is never %q", label, value))
	}
}

func TestExpressionsThatAreWrong(t *testing.T) {
	e := allExported(t)
	for _, text := range []string{
		"",
		"1",
		"hooktrust_request_total",
		"up",
		`hooktrust_requests_total{key="0"}`,
		`hooktrust_requests_total{outcome="lately"}`,
		`hooktrust_requests_total{outcome=~"late|lately"}`,
		`hooktrust_requests_total{status="200"}`,
		`hooktrust_requests_total{outcome="late"`,
		`hooktrust_requests_total{outcome=late}`,
		"rate(hooktrust_requests_total)",
		"rate(hooktrust_requests_total[5])",
		"rate(hooktrust_requests_total[5m]",
		"rate(hooktrust_request_duration_seconds[5m])",
		"sum by (reason) (rate(hooktrust_requests_total[5m]))",
		"sum by (sender) (rate(hooktrust_requests_total[5m])) +",
		"sum by (sender) (rate(hooktrust_requests_total[5m])) 5",
		"histogram_quantile(0.5, sum by (le) (rate(hooktrust_requests_total[5m])))",
		"average(hooktrust_requests_total)",
		"hooktrust_requests_total ; hooktrust_requests_total",
	} {
		_, _, err := e.check(text)
		assert.Error(t, err, text)
	}
	used, labels, err := e.check(`sum by (sender, key) (increase(hooktrust_verified_deliveries_total{sender=~"$sender", key!="0"}[1d])) > 0.5`)
	require.NoError(t, err)
	assert.Equal(t, map[string]bool{"hooktrust_verified_deliveries_total": true}, used)
	assert.Equal(t, map[string]bool{"sender": true, "key": true}, labels)
}

var placeholder = regexp.MustCompile(`{{\s*(?:\$labels\.)?(\w+)\s*}}`)

// placeholders returns an error if text names a label that the expression's
// result does not have.
func placeholders(text string, labels map[string]bool) error {
	for _, match := range placeholder.FindAllStringSubmatch(text, -1) {
		if !labels[match[1]] {
			return fmt.Errorf("%q names the label %q, which the result does not have", text, match[1])
		}
	}
	return nil
}

func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("dashboard.json")
	require.NoError(t, err)
	type dashboard struct {
		Title      string
		UID        string
		Templating struct {
			List []struct {
				Name  string
				Type  string
				Query any
			}
		}
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ RefID, Expr, LegendFormat string }
		}
	}
	var d dashboard
	require.NoError(t, json.Unmarshal(text, &d))
	require.GreaterOrEqual(t, len(d.Panels), 8)
	e := allExported(t)
	var read []string
	ids := make(map[int]bool)
	for _, p := range d.Panels {
		assert.False(t, ids[p.ID], "two panels have the id %d", p.ID)
		ids[p.ID] = true
		assert.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			used, labels, err := e.check(target.Expr)
			require.NoError(t, err, "%s: %s", p.Title, target.Expr)
			require.NoError(t, placeholders(target.LegendFormat, labels), p.Title)
			assert.Contains(t, target.Expr, `sender=~"$sender"`, p.Title)
			read = slices.AppendSeq(read, maps.Keys(used))
		}
	}
	for name := range e {
		base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
		assert.True(t, slices.ContainsFunc(read, func(s string) bool { return strings.HasPrefix(s, base) }), "%s is on no panel", base)
	}
	variables := make(map[string]bool)
	for _, v := range d.Templating.List {
		variables[v.Name] = true
	}
	for _, match := range regexp.MustCompile(`\$\{?(\w+)`).FindAllStringSubmatch(string(text), -1) {
		if !strings.HasPrefix(match[1], "__") {
			assert.True(t, variables[match[1]], "there is no variable $%s", match[1])
		}
	}
	assert.Contains(t, string(text), `"label_values(hooktrust_requests_total, sender)"`)
}

func TestAlerts(t *testing.T) {
	text, err := os.ReadFile("alerts.yaml")
	require.NoError(t, err)
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert       string
				Expr        string
				For         time.Duration
				Labels      map[string]string
				Annotations map[string]string
			}
		}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	require.NoError(t, decoder.Decode(&file))
	e := allExported(t)
	var names []string
	for _, g := range file.Groups {
		assert.NotEmpty(t, g.Name)
		for _, rule := range g.Rules {
			names = append(names, rule.Alert)
			_, labels, err := e.check(rule.Expr)
			require.NoError(t, err, rule.Alert)
			assert.Contains(t, []string{"warning", "critical"}, rule.Labels["severity"], rule.Alert)
			assert.NotEmpty(t, rule.Annotations["summary"], rule.Alert)
			for _, annotation := range rule.Annotations {
				require.NoError(t, placeholders(annotation, labels), rule.Alert)
			}
		}
	}
	for _, name := range []string{"HooktrustRefusedDeliveriesRise", "HooktrustLateAnswers", "HooktrustHandlerPanics"} {
		assert.Contains(t, names, name)
	}
	slices.Sort(names)
	assert.Len(t, slices.Compact(names), 7)
}
