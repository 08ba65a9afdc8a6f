package dashboard

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// Of too many tasks the graph has those with dependencies, groups, and those in trouble; the others by their names.
func TestGraphPageOfManyTasks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t)
		for i := range mostBoxes {
			s.start(fmt.Sprintf("a-%03d", i), park)
		}
		s.start("z-needed", park)
		s.start("z-needs", park, taskmanager.WithDependsOn("z-needed"))
		s.start("z-failed", fail, taskmanager.WithMaxRestarts(0))
		s.start("z-group", taskmanager.Group(func(m *taskmanager.Manager) error {
			_, err := m.StartTask("inner", park)
			return err
		}))
		synctest.Wait()
		b := graphBuilder{left: mostBoxes}
		nodes := b.nodes(s.manager, nil)
		require.Len(t, nodes, mostBoxes)
		assert.Equal(t, 5, b.omitted, "four, and the task of the group")
		var labels []string
		for _, n := range nodes[:5] {
			labels = append(labels, n.label)
		}
		assert.Equal(t, []string{"z-group", "z-needed", "z-needs", "z-failed", "a-000"}, labels)
		assert.Equal(t, 1, nodes[0].more)

		w := s.get("graph")
		require.Equal(t, http.StatusOK, w.Code)
		assert.Equal(t, mostBoxes, strings.Count(w.Body.String(), `<rect class="box"`))
		tasks := decode[struct{ Tasks []jsonNode }](t, s.get("graph.json")).Tasks
		assert.Len(t, tasks, mostBoxes+5, "for machines it has all")
	})
}
