// The widgets of a notebook that is opened again have no model until their cells run. ipywidgets
// shows "Loading widget..." there while no kernel runs, then "Error displaying widget: model not
// found". With this extension, JupyterLab and Notebook 7 show what else the output holds, as
// GitHub does: the picture, or the text.
//
// Written by hand as the module container that JupyterLab loads, so that nothing has to be built.
(() => {
  const VIEW = 'application/vnd.jupyter.widget-view+json';
  const FAILED = 'Error displaying widget'; // there is a model, but its view fails: not ours to hide

  // The renderer, a panel, empties its node, waits for kernel and model, and adds the view or writes
  // that there is none. Until there is a view, the rest of the output stands in its place.
  function withRest(renderer, rendermime) {
    const render = renderer.renderModel.bind(renderer);
    let rest = null;

    function remove() {
      renderer.node.append(rest.node); // whence its panel takes it, which may have been emptied
      rest.dispose();
      rest = null;
    }

    renderer.renderModel = async model => {
      if (rest !== null) remove();
      const rendered = render(model);
      const {[VIEW]: view, ...data} = model.data;
      const kind = rendermime.preferredMimeType(data, model.trusted ? 'any' : 'ensure');
      if (kind !== undefined) {
        rest = rendermime.createRenderer(kind);
        renderer.node.textContent = '';
        renderer.addWidget(rest);
        void rest.renderModel({data, metadata: model.metadata, trusted: model.trusted});
      }
      await rendered;
      if (rest === null) return;
      const closed = renderer.isHidden, alive = renderer.widgets.some(widget => widget !== rest);
      if (closed || alive || renderer.node.textContent === FAILED) {
        remove();
      } else {
        renderer.node.replaceChildren(rest.node);
        renderer.removeClass('jupyter-widgets');
      }
    };
    return renderer;
  }

  function activate(app) {
    app.docRegistry.addWidgetExtension('Notebook', {
      createNew: ({content: {rendermime}}) => {
        const create = rendermime.createRenderer.bind(rendermime);
        rendermime.createRenderer = kind =>
          kind === VIEW ? withRest(create(kind), rendermime) : create(kind);
      },
    });
  }

  const plugin = {id: 'blvnet_lab:saved_pictures', autoStart: true, activate};
  window._JUPYTERLAB ??= {};
  window._JUPYTERLAB.blvnet_lab = {
    init: () => {},
    get: async () => () => ({__esModule: true, default: plugin}),
  };
})();
